"""Times have the density they claim, and the better the sampler the less the loss varies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.normal_times import NormalTimes
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.time_sampling import (
    AdaptiveTimes,
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.diffusion.uniforms import IndependentUniforms, LowDiscrepancyUniforms
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError
from tests.crossed import crossed
from tests.gaussian_oracle import PATHS, name_of

SCHEDULE = LinearSchedule(-13.3, 5.0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def learnt(times, integrand, rounds):
    """An adaptive state that has seen the integrand."""

    def once(i, state):
        u = LowDiscrepancyUniforms().draw(jax.random.key(i), 64)
        gamma = times.sample(state, PATHS[0], SCHEDULE, u).gamma
        return times.update(state, SCHEDULE, gamma, integrand(gamma))

    return jax.lax.fori_loop(0, rounds, once, times.init())


def bell(gamma):
    """An integrand that matters in one place."""
    return jnp.exp(-0.5 * jnp.square(gamma + 4.0)) + 1e-3


@pytest.mark.parametrize(
    ("path", "times"),
    crossed(
        PATHS,
        [UniformTimes(), ImportanceSampledTimes(), AdaptiveTimes(bins=16), NormalTimes(-4.0, 4.0)],
    ),
    ids=name_of,
)
def test_density_of_the_drawn_gamma_is_the_slope_of_its_distribution(path, times):
    state = times.init()
    if isinstance(times, AdaptiveTimes):
        state = learnt(times, bell, 5)
    with jax.enable_x64(True):
        state = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), state)
        u = jnp.linspace(0.0, 1.0, 1003)[1:-1]

        def gamma(u):
            return times.sample(state, path, SCHEDULE, u[None]).gamma[0]

        slope = jax.jit(jax.vmap(jax.grad(gamma)))(u)  # dγ/du = 1/p
        drawn = times.sample(state, path, SCHEDULE, u)
        assert np.allclose(slope * drawn.density, 1.0, rtol=1e-6)
        assert np.all(np.diff(drawn.gamma) > 0)
        ends = times.sample(state, path, SCHEDULE, jnp.asarray([0.0, 1.0])).gamma
        assert np.allclose(ends, [-13.3, 5.0], atol=1e-6)


@pytest.mark.parametrize(
    ("path", "normaliser"),
    [(VariancePreserving(), 13.29328632600269), (StraightPath(), 11.299107962170838)],
    ids=["VP", "SP"],
)
def test_importance_weights_have_the_normaliser_of_the_table(path, normaliser):
    with jax.enable_x64(True):
        drawn = ImportanceSampledTimes().sample((), path, SCHEDULE, jnp.asarray([0.2, 0.7]))
        weight = 0.5 * path.velocity_gain**2 * path.alpha(drawn.gamma) ** 2 / drawn.density
        # On ‖F − F̂‖²: Z/2 for VP, Z for SP.
        expected = normaliser / 2 if path == VariancePreserving() else normaliser
        assert np.allclose(weight, expected, rtol=1e-12)


def test_discrete_times_weigh_every_step_by_its_own_change_of_signal_to_noise():
    with jax.enable_x64(True):
        u = (jnp.arange(10) + 0.3) / 10
        drawn = DiscreteTimes(10).sample((), PATHS[0], SCHEDULE, u)
        gamma = np.linspace(-13.3, 5.0, 11)
        assert np.allclose(drawn.gamma, gamma[1:])
        assert np.allclose(1 / drawn.density, 10 * np.expm1(np.diff(gamma)))


def test_normal_times_are_logit_normal_on_the_straight_path_and_those_of_edm():
    u = (jnp.arange(20_000) + 0.5) / 20_000
    gamma = NormalTimes(0.0, 2.0, 1e-6).sample((), PATHS[1], LinearSchedule(-30.0, 30.0), u).gamma
    sigma = np.asarray(PATHS[1].sigma(gamma), np.float64)
    logit = np.log(sigma) - np.log1p(-sigma)
    assert (logit.mean(), logit.std()) == pytest.approx((0.0, 1.0), abs=2e-3)
    gamma = NormalTimes(-2.4, 2.4, 1e-6).sample((), PATHS[2], LinearSchedule(-30.0, 30.0), u).gamma
    log_sigma = np.log(np.asarray(PATHS[2].sigma(gamma), np.float64))  # of x + σε
    assert (log_sigma.mean(), log_sigma.std()) == pytest.approx((-1.2, 1.2), abs=2e-3)


@pytest.mark.parametrize("times", [NormalTimes(), NormalTimes(-2.4, 2.4), NormalTimes(0.0, 0.5)])
def test_normal_times_reach_the_ends_of_published_schedules(times):
    # On the grid of float32's uniform numbers: in a normal's tails none would lie.
    u = (jnp.arange(2**16) + 0.5) / 2**16
    for schedule in (LinearSchedule(-13.3, 13.3), LinearSchedule(-7.876, 5.0)):
        drawn = times.sample((), PATHS[1], schedule, u)
        width = schedule.gamma_1 - schedule.gamma_0
        assert jnp.mean(1 / drawn.density) == pytest.approx(width, rel=2e-3)
        assert jnp.max(1 / drawn.density) <= 1.001 * width / times.uniform_share
        ends = times.sample((), PATHS[1], schedule, jnp.asarray([0.0, 1.0 - 2.0**-24]))
        assert np.all(np.isfinite(ends.density))


@pytest.mark.parametrize("batch", [1, 3, 7, 49, 100, 128, 1000])
def test_low_discrepancy_numbers_are_evenly_spread_and_exactly_as_many_as_asked(batch):
    u = np.asarray(LowDiscrepancyUniforms().draw(jax.random.key(batch), batch))
    assert u.shape == (batch,)
    assert np.all((u >= 0) & (u < 1))
    gaps = np.diff(np.sort(u))
    assert np.allclose(gaps, 1 / batch, atol=2e-7)


def test_each_low_discrepancy_number_is_uniform_by_itself():
    keys = jax.random.split(jax.random.key(0), 4000)
    third = np.asarray(jax.vmap(lambda key: LowDiscrepancyUniforms().draw(key, 8)[3])(keys))
    counts, _ = np.histogram(third, 10, (0, 1))
    assert np.all(np.abs(counts - 400) < 5 * np.sqrt(360))


def test_variance_falls_from_uniform_to_adaptive_and_from_independent_to_spread_numbers():
    adaptive = AdaptiveTimes(bins=64)
    state = learnt(adaptive, bell, 40)

    def estimates(times, uniforms, state):
        @jax.jit
        @jax.vmap
        def one(key):
            drawn = times.sample(state, PATHS[0], SCHEDULE, uniforms.draw(key, 16))
            return jnp.mean(bell(drawn.gamma) / drawn.density)

        return np.asarray(one(jax.random.split(jax.random.key(1), 500)))

    exact = np.sqrt(2 * np.pi) + 1e-3 * 18.3
    spread = {}
    for name, times, uniforms, of in (
        ("uniform", UniformTimes(), IndependentUniforms(), ()),
        ("uniform, spread", UniformTimes(), LowDiscrepancyUniforms(), ()),
        ("adaptive", adaptive, IndependentUniforms(), state),
    ):
        values = estimates(times, uniforms, of)
        spread[name] = values.std()
        assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(len(values)) + 1e-4
    assert spread["adaptive"] < 0.5 * spread["uniform"]
    assert spread["uniform, spread"] < 0.5 * spread["uniform"]


def test_an_adaptive_sampler_keeps_a_discounted_mean_of_squares_per_draw_and_bin():
    times, schedule = AdaptiveTimes(bins=2, decay=0.5), LinearSchedule(-1.0, 1.0)

    def seen(state, gamma, integrand):
        return times.update(state, schedule, jnp.asarray(gamma), jnp.asarray(integrand))

    # Two draws in the left bin: their mean of squares 5 has the weight 1 − ½².
    state = seen(times.init(), [-0.9, -0.1], [1.0, -3.0])
    np.testing.assert_allclose(state.second_moment, [5.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(state.count, [0.75, 0.0], rtol=1e-6)
    # One draw more in it halves that weight: (½·¾·5 + ½·4)/(½·¾ + ½).
    state = seen(state, [-0.5, 0.5], [2.0, 6.0])
    np.testing.assert_allclose(state.second_moment, [3.875 / 0.875, 36.0], rtol=1e-6)
    np.testing.assert_allclose(state.count, [0.875, 0.5], rtol=1e-6)
    roots = np.sqrt([3.875 / 0.875, 36.0])
    expected = 0.9 * roots / roots.sum() + 0.1 / 2
    np.testing.assert_allclose(times.probabilities(state), expected, rtol=1e-6)


def test_an_adaptive_sampler_keeps_every_gamma_alive():
    times = AdaptiveTimes(bins=8, uniform_share=0.2)
    state = times.update(times.init(), SCHEDULE, jnp.asarray([0.0]), jnp.asarray([1e9]))
    assert np.min(times.probabilities(state)) >= 0.2 / 8 * 0.999
    assert np.sum(times.probabilities(state)) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, 1e20, -3e38])
def test_an_adaptive_sampler_survives_integrands_without_measure(strange):
    times = AdaptiveTimes(bins=4)
    gamma = jnp.asarray([-13.0, -13.0, 0.0, 4.0])
    state = times.init()
    for _ in range(3):
        state = times.update(state, SCHEDULE, gamma, jnp.asarray([1.0, strange, 2.0, strange]))
    probabilities = np.asarray(times.probabilities(state))
    assert np.all(np.isfinite(probabilities)) and probabilities.min() > 0.0
    assert probabilities.sum() == pytest.approx(1.0, rel=1e-6)
    if not np.isfinite(strange):  # as if it had never been drawn
        known = times.init()
        for _ in range(3):
            known = times.update(known, SCHEDULE, gamma[::2], jnp.asarray([1.0, 2.0]))
        np.testing.assert_allclose(state.second_moment, known.second_moment, rtol=1e-6)
        np.testing.assert_allclose(state.count, known.count, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiscreteTimes(0), "steps = 0"),
        (lambda: AdaptiveTimes(bins=0), "bins = 0"),
        (lambda: AdaptiveTimes(uniform_share=0.0), "uniform_share = 0.0"),
        (lambda: AdaptiveTimes(decay=1.0), "decay = 1.0"),
        (lambda: NormalTimes(deviation=0.0), "deviation = 0.0"),
        (lambda: LinearSchedule(5.0, 5.0), "gamma_0 = 5.0"),
        (lambda: LinearSchedule(float("nan"), 5.0), "gamma_0 = nan"),
    ],
)
def test_impossible_samplers_and_schedules_are_refused_with_a_remedy(make, words):
    with pytest.raises(UserError, match=words):
        make()
