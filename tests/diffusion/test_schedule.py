"""The schedule decides what is drawn and in which steps one goes, and not what the bound is."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.cosine_schedule import CosineSchedule
from diffusion_ode.diffusion.schedule import LinearSchedule, NoiseSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.straight_schedule import StraightSchedule
from diffusion_ode.diffusion.time_sampling import (
    AdaptiveTimes,
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError

LINEAR, COSINE = LinearSchedule(-13.3, 5.0), CosineSchedule(-13.3, 5.0)
U = np.linspace(0.0, 1.0, 402)[1:-1]


@dataclass(frozen=True)
class Derived(NoiseSchedule):
    """The cosine schedule without its closed form of the derivative."""

    gamma_0: float = -13.3
    gamma_1: float = 5.0

    def gamma(self, time):
        return CosineSchedule(self.gamma_0, self.gamma_1).gamma(time)


def drawn(times, schedule, u=U):
    return times.sample(times.init(), VariancePreserving(), schedule, jnp.asarray(u, jnp.float32))


def test_cosine_schedule_walks_the_quarter_circle_in_equal_steps():
    with jax.enable_x64(True):
        time = jnp.linspace(0.0, 1.0, 11)
        gamma = COSINE.gamma(time)
        np.testing.assert_allclose(gamma[jnp.asarray([0, -1])], [-13.3, 5.0], rtol=1e-12)
        angle = VariancePreserving().natural_time(gamma)
        np.testing.assert_allclose(np.diff(angle), np.diff(angle)[0], rtol=1e-9)


def test_straight_schedule_walks_the_straight_path_in_equal_steps_in_float32_as_in_float64():
    schedule = StraightSchedule(-13.3, 13.3)
    single = np.asarray(schedule.gamma(jnp.asarray(U, jnp.float32)), np.float64)
    with jax.enable_x64(True):
        time = jnp.linspace(0.0, 1.0, 11)
        gamma = schedule.gamma(time)
        np.testing.assert_allclose(gamma[jnp.asarray([0, -1])], [-13.3, 13.3], rtol=1e-9)
        sigma = StraightPath().sigma(gamma)
        np.testing.assert_allclose(np.diff(sigma), np.diff(sigma)[0], rtol=1e-9)
        rate = jax.vmap(jax.grad(schedule.gamma))(jnp.asarray(U))
        np.testing.assert_allclose(schedule.derivative(jnp.asarray(U)), rate, rtol=1e-9)
        np.testing.assert_allclose(single, schedule.gamma(jnp.asarray(U)), atol=2e-4)


@pytest.mark.parametrize("times", [UniformTimes(), DiscreteTimes(10)], ids=str)
def test_the_cosine_schedule_changes_what_is_drawn(times):
    linear, cosine = drawn(times, LINEAR), drawn(times, COSINE)
    assert np.mean(np.abs(cosine.gamma) < 2.0) > 2 * np.mean(np.abs(linear.gamma) < 2.0)
    assert not np.allclose(linear.density, cosine.density, rtol=0.1)


@pytest.mark.parametrize("times", [ImportanceSampledTimes(), AdaptiveTimes()], ids=str)
def test_samplers_that_depend_on_the_ends_alone_draw_the_same(times):
    for linear, cosine in zip(drawn(times, LINEAR), drawn(times, COSINE), strict=True):
        np.testing.assert_array_equal(linear, cosine)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=str)
def test_integral_of_the_bound_is_the_same_under_every_schedule(schedule):
    # A Gaussian of variance λ: E‖ε − ε̂‖² = λ/(λ + e^γ), whose integral is a logarithm.
    variance = 0.1
    u = (np.arange(20_000) + 0.5) / 20_000
    with jax.enable_x64(True):
        times = UniformTimes().sample((), VariancePreserving(), schedule, jnp.asarray(u))
        found = jnp.mean(variance / (variance + jnp.exp(times.gamma)) / times.density)
    expected = np.log1p(variance * np.exp(13.3)) - np.log1p(variance * np.exp(-5.0))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE, Derived()], ids=str)
def test_rates_and_changes_are_exact_in_float32(schedule):
    single = jnp.asarray(np.linspace(0.0, 1.0, 1001)[1:], jnp.float32)
    found = [np.asarray(schedule.derivative(single)), np.asarray(schedule.change(single, 1e-3))]
    whole = np.asarray(schedule.change(jnp.ones(1), 1.0))
    with jax.enable_x64(True):
        double = jnp.asarray(np.asarray(single, np.float64))
        rate = jax.vmap(jax.grad(schedule.gamma))(double)
        # Near the data one rounding of a time, 6e-8, is 5e-5 of the angle, and so of the rate.
        np.testing.assert_allclose(found[0], rate, rtol=5e-5)
        start = jnp.maximum(double - 1e-3, 0.0)
        change = schedule.gamma(double) - schedule.gamma(start)
        np.testing.assert_allclose(found[1][1:], change[1:], rtol=1e-4)
        assert schedule.change(jnp.ones(1), 1.0) == pytest.approx(18.3, rel=1e-9)
    assert whole == pytest.approx(18.3, rel=1e-6)


def test_the_network_is_told_the_place_of_gamma_between_the_ends_whatever_the_schedule():
    gamma = jnp.asarray([-13.3, -4.15, 5.0])
    for schedule in (LINEAR, COSINE):
        np.testing.assert_allclose(schedule.network_time(gamma), [0.0, 0.5, 1.0], atol=1e-6)


def test_ends_in_the_wrong_order_are_refused_for_every_schedule():
    for kind in (LinearSchedule, CosineSchedule, Derived):
        with pytest.raises(UserError, match=r"gamma_0 = 5\.0 is not below gamma_1 = 4\.0"):
            kind(5.0, 4.0)
