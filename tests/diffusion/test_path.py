"""What a path does not say follows from what it says."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.path import Path
from diffusion_ode.diffusion.variance_exploding import VarianceExploding
from tests.gaussian_oracle import PATHS, name_of

USUAL = np.linspace(-13.3, 5.0, 201)
X, NOISE = np.random.default_rng(0).normal(size=(2, 201))
OF_GAMMA = [
    *("alpha", "sigma", "log_alpha_derivative", "log_sigma_derivative", "velocity_skip"),
    *("velocity_trace_offset", "natural_time_derivative"),
]


@dataclass(frozen=True)
class Derived(Path):
    """Only the two logarithms of another path, and the scale of its velocity."""

    closed: Path

    @property
    def velocity_gain(self):
        return self.closed.velocity_gain

    def log_alpha(self, gamma):
        return self.closed.log_alpha(gamma)

    def log_sigma(self, gamma):
        return self.closed.log_sigma(gamma)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_what_follows_from_the_logarithms_agrees_with_the_closed_forms_in_float32(path):
    derived, gamma = Derived(path), jnp.asarray(USUAL, jnp.float32)
    x, noise = jnp.asarray(X, jnp.float32), jnp.asarray(NOISE, jnp.float32)
    for name in OF_GAMMA:
        found, closed = getattr(derived, name)(gamma), getattr(path, name)(gamma)
        np.testing.assert_allclose(found, closed, rtol=3e-6, atol=1e-12, err_msg=name)
    found, closed = derived.velocity(gamma, x, noise), path.velocity(gamma, x, noise)
    np.testing.assert_allclose(found, closed, atol=3e-6)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_integrals_and_their_inverses_agree_with_the_closed_forms(path):
    derived, gamma = Derived(path), jnp.asarray(USUAL, jnp.float32)
    time, signal = path.natural_time(gamma), path.signal_remaining(gamma)
    np.testing.assert_allclose(derived.natural_time(gamma), time, rtol=3e-6)
    there_and_back = derived.gamma_of_natural_time(time)
    np.testing.assert_allclose(there_and_back, gamma, atol=2e-5)
    # Up to a constant, which only a path whose signal ends can do without.
    found = derived.signal_remaining(gamma) - derived.signal_remaining(gamma[-1:])
    np.testing.assert_allclose(found, signal - signal[-1], rtol=2e-6, atol=2e-5)
    there_and_back = derived.gamma_of_signal_remaining(derived.signal_remaining(gamma))
    np.testing.assert_allclose(there_and_back, gamma, atol=1e-4)
    with jax.enable_x64(True):
        derivative = jax.vmap(jax.grad(derived.gamma_of_natural_time))(
            derived.natural_time(jnp.asarray(USUAL))
        )
        expected = 1.0 / path.natural_time_derivative(jnp.asarray(USUAL))
        np.testing.assert_allclose(derivative, expected, rtol=1e-7)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_gamma_is_the_logarithm_of_noise_to_signal_and_the_velocity_moves_all(path):
    with jax.enable_x64(True):
        gamma, x, noise = map(jnp.asarray, (USUAL, X, NOISE))
        np.testing.assert_allclose(2 * (path.log_sigma(gamma) - path.log_alpha(gamma)), gamma)
        z = path.alpha(gamma) * x + path.sigma(gamma) * noise
        velocity = path.velocity(gamma, x, noise)
        gain = path.velocity_gain * path.alpha(gamma)
        np.testing.assert_allclose(gain * velocity + path.velocity_skip(gamma) * z, noise)
        # (d log α/dγ) z + ½σε, the drift of this x and ε, in the form without a term in z.
        drift = path.log_alpha_derivative(gamma) * z + 0.5 * path.sigma(gamma) * noise
        np.testing.assert_allclose(0.5 * path.sigma(gamma) * gain * velocity, drift, atol=1e-12)


def test_exploding_variance_leaves_the_data_as_it_is_and_its_velocity_is_the_noise():
    path, gamma = VarianceExploding(), jnp.asarray(USUAL, jnp.float32)
    x, noise = jnp.asarray(X, jnp.float32), jnp.asarray(NOISE, jnp.float32)
    assert np.all(path.alpha(gamma) == 1.0)
    np.testing.assert_array_equal(path.velocity(gamma, x, noise), noise)
