"""Weightings: their published forms, and that times of any density estimate the same loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.cosine_schedule import CosineSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import (
    DataPrediction,
    NoisePrediction,
    VelocityPrediction,
)
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.time_sampling import (
    AdaptiveTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.diffusion.weighting import (
    EdmWeighting,
    LikelihoodWeighting,
    MinSnrWeighting,
    MonotoneWeighting,
    SigmoidWeighting,
    UnweightedError,
    Weighting,
)
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.flow_matching import FlowMatching
from tests.gaussian_oracle import (
    PARAMETERIZATIONS,
    PATHS,
    RealPixels,
    draw_data,
    exact_model,
    gaussian,
    in_float32,
    name_of,
)
from tests.small_network import SmallNetwork

PATH, COSINE, GAMMA = VariancePreserving(), CosineSchedule(-9.0, 5.0), np.linspace(-8.0, 4.0, 25)
LAMBDA = -GAMMA
# Kingma and Gao 2023, arXiv:2303.00848, table 1, up to constant factors.
PUBLISHED = {
    UnweightedError(NoisePrediction()): 1 / np.cosh(LAMBDA / 2),
    UnweightedError(VelocityPrediction()): np.exp(-LAMBDA / 2),
    UnweightedError(DataPrediction()): np.exp(-LAMBDA) / np.cosh(LAMBDA / 2),
    MinSnrWeighting(): np.minimum(1.0, 5.0 * np.exp(-LAMBDA)) / np.cosh(LAMBDA / 2),
    EdmWeighting(): np.exp(-0.5 * ((LAMBDA - 2.4) / 2.4) ** 2) * (np.exp(-LAMBDA) + 0.25),
    SigmoidWeighting(2.0): 1.0 / (1.0 + np.exp(LAMBDA - 2.0)),
    LikelihoodWeighting(): np.ones_like(LAMBDA),
}


def weight(weighting):
    return np.asarray(weighting.weight(PATH, COSINE, jnp.asarray(GAMMA, jnp.float32)))


@pytest.mark.parametrize("weighting", PUBLISHED, ids=lambda w: f"{w}".replace("()", ""))
def test_weights_are_proportional_to_the_published_ones(weighting, strict):
    ratio = weight(weighting) / PUBLISHED[weighting]
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-4)


def test_only_the_likelihood_s_weighting_is_a_bound():
    assert [w for w in PUBLISHED if w.is_bound] == [LikelihoodWeighting()]


@dataclasses.dataclass(frozen=True)
class Falling(Weighting):
    """Least at the noise, so that the most is where a running maximum has to begin."""

    def weight(self, path, schedule, gamma):
        return jnp.exp(-gamma / 4.0)


def test_a_monotone_weighting_is_the_running_maximum_from_the_data_s_end(strict):
    """On a grid far beyond EDM's peak at γ = 3.4, which a coarse one finds as well."""
    schedule, gamma = LinearSchedule(-9.0, 14.0), np.linspace(-9.0, 14.0, 470)

    def at(weighting):
        return np.asarray(weighting.weight(PATH, schedule, jnp.asarray(gamma, jnp.float32)))

    other, monotone = at(EdmWeighting()), at(MonotoneWeighting(EdmWeighting()))
    peak = other.argmax()
    assert other[0] < 0.1 * other[peak] > other[-1]
    np.testing.assert_allclose(monotone[:peak], other[:peak], rtol=1e-5)
    np.testing.assert_allclose(monotone[peak:], other[peak], rtol=5e-3)  # as fine as its grid
    np.testing.assert_allclose(at(MonotoneWeighting(Falling())), at(Falling())[0], rtol=1e-6)


@pytest.mark.parametrize(
    "weighting",
    [
        *(SigmoidWeighting(), UnweightedError(), UnweightedError(VelocityPrediction())),
        *(EdmWeighting(), MinSnrWeighting(), MonotoneWeighting()),
    ],
    ids=str,
)
def test_every_sampler_estimates_the_weighted_integral_of_gaussian_data(weighting):
    data = in_float32(gaussian())
    model = exact_model(PATH, VelocityPrediction())
    levels = draw_data(data, 4096).reshape(-1, 2, 2, 1).astype(np.float32)
    gamma = np.linspace(-6.0, 5.0, 2001)
    alpha, sigma = (np.asarray(f(jnp.asarray(gamma)))[:, None] for f in (PATH.alpha, PATH.sigma))
    left = np.sum(alpha**2 * data["variance"] / (alpha**2 * data["variance"] + sigma**2), axis=1)
    at = np.asarray(weighting.weight(PATH, model.schedule, jnp.asarray(gamma, jnp.float32)))
    exact, bound = np.trapezoid(0.5 * at * left, gamma), np.trapezoid(0.5 * left, gamma)
    for times in (UniformTimes(), ImportanceSampledTimes(), AdaptiveTimes(bins=8)):
        objective = FlowMatching(times, weighting)
        draws = objective.draw(model, levels, jax.random.key(0), times.init())
        terms = objective.loss(model, data, levels, jnp.zeros(len(levels)), draws, None)
        for found, expected in ((terms.loss, exact), (terms.bound, bound)):
            error = np.std(found) / np.sqrt(len(levels))
            assert abs(np.mean(found) - expected) < 4.0 * error
            assert error < 0.06 * expected


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_an_unweighted_error_is_that_of_what_it_names_whatever_the_network_predicts(path):
    """Image by image, ‖ε − ε̂‖², ‖x − x̂‖² or ‖F − F̂‖² by hand, at times uniform in t."""
    schedule, shape, count = LinearSchedule(-4.0, 4.0), (2, 2, 1), 8
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(2).normal(size=(count, *shape)))
        for own in PARAMETERIZATIONS:
            model = Model(path, schedule, own, SmallNetwork(2), RealPixels(shape, 2))
            parameters = jax.jit(model.init)(jax.random.key(0))
            draws = FlowMatching(UniformTimes()).draw(model, x, jax.random.key(1), ())
            gamma, at = draws.gamma, draws.gamma[:, None, None, None]
            z = path.alpha(at) * x + path.sigma(at) * draws.noise
            noise = model.noise(model.predict(parameters, z, gamma, jnp.zeros(count)), z, gamma)
            guess = (z - path.sigma(at) * noise) / path.alpha(at)
            for of in PARAMETERIZATIONS:
                objective = FlowMatching(UniformTimes(), UnweightedError(of))
                terms = objective.loss(model, parameters, x, jnp.zeros(count), draws, None)
                found = of.target(path, at, guess, noise)
                error = of.target(path, at, x, draws.noise) - found
                expected = np.sum(np.square(error), axis=(1, 2, 3))
                np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "made",
    [
        lambda: SigmoidWeighting(float("nan")),
        lambda: EdmWeighting(log_sigma_deviation=0.0),
        lambda: MinSnrWeighting(-5.0),
        lambda: dataclasses.replace(EdmWeighting(), data_deviation=float("inf")),
    ],
)
def test_what_is_no_weight_is_refused(made):
    with pytest.raises(UserError, match="is not a float in"):
        made()
