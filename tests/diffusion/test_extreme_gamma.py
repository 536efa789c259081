"""Float32 is held against float64 wherever γ may go, and stays finite well beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.dequantization import (
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from diffusion_ode.diffusion.integration_variable import (
    ImportanceVariable,
    LogSnrVariable,
    NaturalVariable,
)
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import NoisePrediction, VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.time_sampling import (
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.inference.ancestral_sampling import ancestral_step
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
    "times",
    [UniformTimes(), ImportanceSampledTimes(), DiscreteTimes(100), DiscreteTimes(1000)],
    ids=str,
)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_sampled_times_and_their_densities_are_exact_in_float32(path, times):
    u = np.linspace(0.0, 1.0, 403)[1:-1]
    gamma = in_both(lambda u: times.sample((), path, SCHEDULE, u).gamma, u)
    density = in_both(lambda u: times.sample((), path, SCHEDULE, u).density, u)
    # γ is a logarithm: its absolute error is the relative one of the signal-to-noise ratio.
    assert np.allclose(*gamma, rtol=0, atol=1e-5)
    assert np.allclose(*density, rtol=1e-5, atol=0)


def test_linear_schedule_is_exact_to_two_units_in_the_last_place():
    time = np.linspace(0.0, 1.0, 1001)
    # Neighbours of 13.3 are 1e-6 apart in float32, and those of 18.3 twice that.
    assert np.allclose(*in_both(SCHEDULE.gamma, time), rtol=0, atol=2e-6)
    assert np.allclose(*in_both(SCHEDULE.network_time, USUAL), rtol=0, atol=1e-6)
    for steps in (1, 10, 1000, 100_000):
        change = in_both(lambda t, steps=steps: SCHEDULE.change(t, 1.0 / steps), time[1:])
        assert np.allclose(*change, rtol=1e-6, atol=0)
        assert np.allclose(change[1], 18.3 / steps, rtol=1e-12)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_thousandth_ancestral_step_keeps_its_digits(path):
    # From x = 0 with a network that answers 0 only the fresh noise is left: √c σ_s ε.
    model = Model(path, SCHEDULE, NoisePrediction(), None, Pixels((1, 1, 1), 256))

    def step(time):
        zero, one = jnp.zeros((len(time), 1, 1, 1), time.dtype), jnp.ones((len(time), 1, 1, 1))
        gamma, change = SCHEDULE.gamma(time), SCHEDULE.change(time, 1e-3)
        return ancestral_step(model, zero, zero, gamma, change, one.astype(time.dtype))

    assert np.allclose(*in_both(step, np.arange(1, 1001) / 1000), rtol=1e-5, atol=0)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_lambert_w_is_solved_to_a_millionth_in_float32_between_minus_and_plus_twenty(path):
    def round_trip(gamma):
        return path.sigma(path.gamma_of_signal_remaining(path.signal_remaining(gamma)))

    single, double = in_both(round_trip, BEYOND)
    with jax.enable_x64(True):
        exact = np.asarray(path.sigma(jnp.asarray(np.float32(BEYOND), jnp.float64)))
    assert np.allclose(double, exact, rtol=1e-8)
    assert np.allclose(single, exact, rtol=2e-6)


@pytest.mark.parametrize("gamma_0", [-20.0, -13.3, -8.0, -2.0, 5.0])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_decoders_log_probability_by_itself_is_exact_in_float32(gamma_0, levels):
    # Each value is an image, so that no sum over values hides the error of one.
    pixels = Pixels((1, 1, 1), levels)
    chosen = np.random.default_rng(3).integers(0, levels, (600, 1, 1, 1))
    chosen[:2] = [[[[0]]], [[[levels - 1]]]]
    deviation = np.random.default_rng(4).normal(size=chosen.shape)

    def log_probability(deviation):
        return pixels.log_probability(jnp.asarray(chosen, jnp.int32), deviation, gamma_0)

    single, double = in_both(log_probability, deviation)
    assert double.shape == (600,)
    assert np.all(np.abs(single - double) <= 1e-5 * np.abs(double) + 1e-37)
    _, slope = jax.jvp(
        log_probability, (jnp.asarray(deviation, jnp.float32),), (jnp.ones(chosen.shape),)
    )
    assert np.isfinite(slope).all()
    # And float64 is the softmax of the squared distances, by NumPy.
    spread = np.exp(0.5 * gamma_0)
    centres = (2.0 * np.arange(levels) + 1.0) / levels - 1.0
    noised = centres[chosen.ravel()] + spread * np.float64(np.float32(deviation.ravel()))
    logits = -0.5 * ((noised[:, None] - centres) / spread) ** 2
    expected = logits[np.arange(600), chosen.ravel()] - np.logaddexp.reduce(logits, axis=1)
    assert np.allclose(double, expected, rtol=1e-6, atol=1e-9)


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
