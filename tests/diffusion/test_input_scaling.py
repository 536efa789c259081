"""What the network sees of z has one size, wherever on the path it is."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.input_scaling import UnitVariance
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import NoisePrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.errors import UserError
from tests.gaussian_oracle import PATHS, name_of


@dataclass(frozen=True)
class Repeats:
    """A network that answers what it is given: z in one half, the noise's size in the other."""

    def apply(self, variables, z, time, flag, sigma, **options):
        return z.at[:, 0].set(sigma[:, None, None])


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_the_network_is_given_unit_variance_and_the_noises_size_in_it(path):
    model = Model(
        path,
        LinearSchedule(-7.8, 9.2),
        NoisePrediction(),
        Repeats(),
        Pixels((2, 64, 64), 2),
        UnitVariance(0.3),
    )
    gamma = jnp.linspace(-7.8, 9.2, 9)
    x, noise = jax.random.normal(jax.random.key(0), (2, 9, *model.pixels.shape))
    seen = np.asarray(model.predict({}, model.noised(0.3 * x, gamma, noise), gamma, gamma))
    np.testing.assert_allclose(seen[:, 1].std(axis=(1, 2)), 1.0, atol=0.05)
    alpha, sigma = np.asarray(path.alpha(gamma)), np.asarray(path.sigma(gamma))
    expected = sigma / np.hypot(0.3 * alpha, sigma)
    np.testing.assert_allclose(seen[:, 0, 0, 0], expected, rtol=1e-5)
    assert np.all((seen[:, 0, 0, 0] > 0.0) & (seen[:, 0, 0, 0] <= 1.0))


def test_data_without_size_are_refused():
    with pytest.raises(UserError, match=r"data_deviation = 0\.0 is not a float in \(0, "):
        UnitVariance(0.0)
