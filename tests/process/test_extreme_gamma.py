"""Float32 is held against float64 wherever γ may go, and stays finite well beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.process.dequantization import (
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from diffusion_ode.process.integration_variable import (
    ImportanceVariable,
    LogSnrVariable,
    NaturalVariable,
)
from diffusion_ode.process.model import Model
from diffusion_ode.process.parameterization import VelocityPrediction
from diffusion_ode.process.pixels import Pixels
from diffusion_ode.process.schedule import LinearSchedule
from diffusion_ode.process.time_sampling import (
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, name_of

USUAL = np.linspace(-13.3, 5.0, 401)
BEYOND = np.linspace(-20.0, 20.0, 401)
SCHEDULE = LinearSchedule(-13.3, 5.0)
X = np.random.default_rng(0).uniform(-1, 1, 401)
NOISE = np.random.default_rng(1).normal(size=401)

OF_PATH = [
    "log_alpha",
    "log_sigma",
    "alpha",
    "sigma",
    "log_alpha_derivative",
    "log_sigma_derivative",
    "velocity_skip",
    "velocity_trace_offset",
    "natural_time",
    "natural_time_derivative",
    "signal_remaining",
]
OF_PARAMETERIZATION = ["gain", "skip", "trace_offset", "drift_skip"]
VARIABLES = [LogSnrVariable(), NaturalVariable(), ImportanceVariable()]


def quantities(path):
    """Everything that is a function of γ alone, under a name."""
    found = {name: getattr(path, name) for name in OF_PATH}
    for parameterization in PARAMETERIZATIONS:
        kind = name_of(parameterization)
        for name in OF_PARAMETERIZATION:
            method = getattr(parameterization, name)
            found[f"{kind}.{name}"] = lambda gamma, method=method: method(path, gamma)
        model = Model(path, SCHEDULE, parameterization, None, Pixels())
        found[f"{kind}.likelihood_weight"] = model.likelihood_weight
        found[f"{kind}.target"] = lambda gamma, p=parameterization: p.target(
            path, gamma, jnp.asarray(X, gamma.dtype), jnp.asarray(NOISE, gamma.dtype)
        )
    for variable in VARIABLES:
        found[f"{name_of(variable)}.gamma_derivative"] = lambda gamma, variable=variable: (
            variable.gamma_derivative(path, gamma)
        )
    return found


def in_both(function, *arguments):
    """In float32, and in float64 of the same float32 numbers."""
    rounded = [np.asarray(argument, np.float32) for argument in arguments]
    single = np.asarray(function(*map(jnp.asarray, rounded)), np.float64)
    with jax.enable_x64(True):
        double = np.asarray(function(*(jnp.asarray(a, jnp.float64) for a in rounded)))
    return single, double


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_float32_is_float64_to_a_hundred_thousandth(path):
    for name, function in quantities(path).items():
        single, double = in_both(function, USUAL)
        # A target may pass through zero: its error is relative to its terms.
        scale = np.abs(double) + (0.1 if name.endswith("target") else 0.0)
        assert np.all(np.abs(single - double) <= 1e-5 * scale), name


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_values_and_gradients_are_finite_between_minus_and_plus_twenty(path):
    gamma = jnp.asarray(BEYOND, jnp.float32)
    for name, function in quantities(path).items():
        value, gradient = jax.jvp(function, (gamma,), (jnp.ones_like(gamma),))
        assert np.isfinite(value).all(), name
        assert np.isfinite(gradient).all(), name
    for there, back in (
        ("natural_time", "gamma_of_natural_time"),
        ("signal_remaining", "gamma_of_signal_remaining"),
    ):
        between = getattr(path, there)(gamma)
        value, gradient = jax.jvp(getattr(path, back), (between,), (jnp.ones_like(between),))
        assert np.isfinite(value).all(), back
        assert np.isfinite(gradient).all(), back


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_derivatives_are_those_of_the_functions_they_are_named_after(path):
    with jax.enable_x64(True):
        gamma = jnp.asarray(BEYOND)
        for name in ("log_alpha", "log_sigma", "natural_time"):
            slope = jax.vmap(jax.grad(getattr(path, name)))(gamma)
            assert np.allclose(getattr(path, f"{name}_derivative")(gamma), slope, rtol=1e-9)
        slope = jax.vmap(jax.grad(path.signal_remaining))(gamma)
        assert np.allclose(-slope, path.alpha(gamma) ** 2, rtol=1e-8)


@pytest.mark.parametrize("variable", VARIABLES, ids=name_of)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_every_variable_of_integration_leads_back_to_gamma(path, variable):
    def there_and_back(gamma):
        return variable.gamma(path, variable.value(path, gamma))

    single, double = in_both(there_and_back, USUAL)
    assert np.allclose(double, np.float32(USUAL), atol=1e-9)
    assert np.allclose(single, np.float32(USUAL), atol=1e-5)
    with jax.enable_x64(True):
        gamma = jnp.asarray(USUAL)
        slope = jax.vmap(jax.grad(lambda g: variable.value(path, g)))(gamma)
        assert np.allclose(1 / slope, variable.gamma_derivative(path, gamma), rtol=1e-8)


@pytest.mark.parametrize(
    "times", [UniformTimes(), ImportanceSampledTimes(), DiscreteTimes(100)], ids=name_of
)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_sampled_times_and_their_densities_are_exact_in_float32(path, times):
    u = np.linspace(0.0, 1.0, 403)[1:-1]
    gamma = in_both(lambda u: times.sample((), path, SCHEDULE, u).gamma, u)
    density = in_both(lambda u: times.sample((), path, SCHEDULE, u).density, u)
    # γ is a logarithm: its absolute error is the relative one of the signal-to-noise ratio.
    assert np.allclose(*gamma, rtol=0, atol=1e-5)
    assert np.allclose(*density, rtol=1e-5 if name_of(times) != "DiscreteTimes" else 1e-4)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_lambert_w_is_solved_to_a_millionth_in_float32_between_minus_and_plus_twenty(path):
    def round_trip(gamma):
        return path.sigma(path.gamma_of_signal_remaining(path.signal_remaining(gamma)))

    single, double = in_both(round_trip, BEYOND)
    with jax.enable_x64(True):
        exact = np.asarray(path.sigma(jnp.asarray(np.float32(BEYOND), jnp.float64)))
    assert np.allclose(double, exact, rtol=1e-8)
    assert np.allclose(single, exact, rtol=2e-6)


@pytest.mark.parametrize(
    "dequantization",
    [UniformDequantization(), VariationalDequantization(), TruncatedNormalDequantization()],
    ids=name_of,
)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_log_densities_are_exact_in_float32(path, dequantization):
    model = Model(path, SCHEDULE, VelocityPrediction(), None, Pixels((4, 4, 3), 256))
    levels = np.random.default_rng(2).integers(0, 256, (3, 4, 4, 3))
    noise = np.asarray(dequantization.draw(model, jax.random.key(0)))
    noise = np.stack([noise, noise[::-1], noise[:, ::-1]])

    def log_weight(noise):
        return dequantization.start(model, jnp.asarray(levels), noise).log_weight

    assert np.allclose(*in_both(log_weight, noise), rtol=1e-5)
    assert np.allclose(*in_both(model.prior_log_density, noise), rtol=1e-5)
