"""The bound's end terms where they are large, against the distributions written out in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from diffusion_ode.diffusion.end_terms import GaussianEnds
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from tests.gaussian_oracle import PATHS, name_of

SHAPE, V = (2, 3, 2), 7
GAMMA_0, GAMMA_1 = -2.0, 1.0  # far from the ends of training: both terms are of order 1
IMAGES = np.random.default_rng(0).integers(0, V, (5, *SHAPE))
X = (2.0 * IMAGES + 1.0) / V - 1.0


def model_and_ends(path):
    """The model, and (α, σ) at both ends by the paths' definitions."""
    at = np.array([GAMMA_0, GAMMA_1])
    if name_of(path) == "VariancePreserving":
        alpha, sigma = np.sqrt(1 / (1 + np.exp(at))), np.sqrt(1 / (1 + np.exp(-at)))
    else:
        alpha, sigma = 1 / (1 + np.exp(at / 2)), 1 / (1 + np.exp(-at / 2))
    schedule = LinearSchedule(GAMMA_0, GAMMA_1)
    model = Model(path, schedule, VelocityPrediction(), None, Pixels(SHAPE, V))
    return model, alpha, sigma


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_prior_term_is_the_divergence_of_the_noised_data_from_what_samples_start_from(path):
    model, alpha, sigma = model_and_ends(path)
    found = np.asarray(GaussianEnds().prior(model, jnp.asarray(IMAGES, jnp.int32)))

    def divergence(mean):
        q, p = stats.norm(mean, sigma[1]), stats.norm(0.0, sigma[1])
        z = np.linspace(mean - 12 * sigma[1], mean + 12 * sigma[1], 2001)
        return integrate.trapezoid(q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), z)

    of_level = np.array([divergence(alpha[1] * ((2 * k + 1) / V - 1)) for k in range(V)])
    expected = of_level[IMAGES].sum(axis=(1, 2, 3))
    assert expected.min() > 0.3
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_reconstruction_term_is_the_softmax_of_the_encoders_densities(path):
    model, alpha, sigma = model_and_ends(path)
    noise = np.random.default_rng(1).normal(size=IMAGES.shape).astype(np.float32)
    levels = jnp.asarray(IMAGES, jnp.int32)
    found = np.asarray(GaussianEnds().reconstruction(model, levels, jnp.asarray(noise)))

    z = alpha[0] * X + sigma[0] * noise
    centres = alpha[0] * ((2 * np.arange(V) + 1) / V - 1)
    densities = stats.norm.pdf(z[..., None], centres, sigma[0])
    own = np.take_along_axis(densities, IMAGES[..., None], axis=-1)[..., 0]
    expected = -np.log(own / densities.sum(axis=-1)).sum(axis=(1, 2, 3))
    assert expected.min() > 3.0
    np.testing.assert_allclose(found, expected, rtol=1e-5)
