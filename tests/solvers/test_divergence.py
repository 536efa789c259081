"""Every estimator against the closed form for a linear field, whose Jacobian is a known matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.solvers.divergence import draw_probes, with_linear_skip
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.hutch_plus_plus import HutchPlusPlus
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.probes import Gaussian, Orthogonal, Rademacher

SHAPE = (2, 3)
N = 6
MATRIX = np.random.default_rng(0).normal(size=(N, N)).astype(np.float32)
SYMMETRIC = (MATRIX + MATRIX.T) / 2
SQUARED_NORM = (SYMMETRIC**2).sum()
DRAWS = 20_000


def field(z, matrix=MATRIX):
    flat = jnp.matmul(z.reshape(z.shape[0], -1), matrix.T, precision="highest")
    return flat.reshape(z.shape)


def estimates(divergence, f=field, draws=DRAWS):
    z = jnp.zeros((draws, *SHAPE))
    keys = jax.random.split(jax.random.key(1), draws)
    draw = jax.jit(lambda: divergence(f, z, draw_probes(divergence, keys, SHAPE)).trace)
    return np.asarray(draw(), np.float64)


def orthogonal_variance(n):
    spread = N * SQUARED_NORM - np.trace(MATRIX) ** 2
    return 2 * (N - n) / (n * (N - 1) * (N + 2)) * spread


@pytest.mark.parametrize(
    ("divergence", "variance"),
    [
        (HutchinsonTrace(), 2 * (SQUARED_NORM - (np.diag(SYMMETRIC) ** 2).sum())),
        (HutchinsonTrace(2, Gaussian()), 2 * SQUARED_NORM / 2),
        (HutchinsonTrace(3, Orthogonal()), orthogonal_variance(3)),
    ],
)
def test_hutchinson_has_the_mean_and_the_variance_of_its_formula(divergence, variance):
    values = estimates(divergence)
    assert abs(values.mean() - np.trace(MATRIX)) < 4 * np.sqrt(variance / DRAWS)
    # The variance of a quartic of bounded or normal entries: a few times 2 variance^2 / draws.
    assert values.var() == pytest.approx(variance, rel=0.1)


def test_standard_error_falls_as_one_over_the_root_of_the_probes():
    spreads = [estimates(HutchinsonTrace(n), draws=4000).std() for n in (1, 9)]
    assert spreads[0] / spreads[1] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(
    "divergence",
    [
        ExactTrace(),
        ExactTrace(chunk=4),
        HutchinsonTrace(N, Orthogonal()),
        HutchPlusPlus(3 * N),
    ],
)
def test_estimators_with_all_directions_are_exact(divergence):
    assert np.allclose(estimates(divergence, draws=5), np.trace(MATRIX), rtol=1e-5, atol=1e-5)


def test_hutch_plus_plus_is_exact_for_low_rank_and_unbiased_beyond_it():
    low_rank = np.outer(MATRIX[0], MATRIX[1]) + np.outer(MATRIX[2], MATRIX[3])
    exact = estimates(HutchPlusPlus(6), lambda z: field(z, low_rank), draws=50)
    assert np.allclose(exact, np.trace(low_rank), rtol=1e-3, atol=1e-3)
    values = estimates(HutchPlusPlus(6))
    standard_error = values.std() / np.sqrt(DRAWS)
    assert abs(values.mean() - np.trace(MATRIX)) < 4 * standard_error


def test_value_is_that_of_the_field_and_trace_belongs_to_its_own_example():
    z = jax.random.normal(jax.random.key(2), (3, *SHAPE))
    slopes = jnp.arange(1.0, 4.0).reshape(1, 1, 3)
    f = jax.jit(lambda z: jnp.sin(z) * slopes)
    expected = jnp.sum(jnp.cos(z) * slopes, axis=(1, 2))
    keys = jax.random.split(jax.random.key(3), 3)
    for divergence in (ExactTrace(), HutchinsonTrace(2)):
        result = jax.jit(lambda d=divergence: d(f, z, draw_probes(d, keys, SHAPE)))()
        assert np.allclose(result.value, f(z), atol=1e-6)
        # A diagonal Jacobian has no Rademacher variance.
        assert np.allclose(result.trace, expected, atol=1e-4)


def test_probe_depends_on_the_examples_key_alone():
    keys = jax.random.split(jax.random.key(4), 5)
    divergence = HutchinsonTrace(2)
    batch = draw_probes(divergence, keys, SHAPE)
    assert np.array_equal(batch[3], divergence.draw_probe(keys[3], SHAPE))
    assert np.array_equal(batch[1:3], draw_probes(divergence, keys[1:3], SHAPE))


def test_linear_skip_takes_the_variance_of_the_linear_part_away():
    slope, divergence = 50.0, HutchinsonTrace(distribution=Gaussian())
    z = jax.random.normal(jax.random.key(5), (2000, *SHAPE))
    probe = draw_probes(divergence, jax.random.split(jax.random.key(6), 2000), SHAPE)
    whole = divergence(lambda z: slope * z + field(z), z, probe)
    split = with_linear_skip(divergence, jnp.full(2000, slope), field, z, probe)
    assert np.allclose(whole.value, split.value, rtol=1e-4, atol=1e-4)
    assert split.trace.mean() == pytest.approx(slope * N + np.trace(MATRIX), abs=0.5)
    assert split.trace.std() < whole.trace.std() / 20


def test_a_linear_part_may_have_a_slope_for_each_element():
    z, slope = jax.random.normal(jax.random.key(7), (2, 3, *SHAPE))
    split = with_linear_skip(ExactTrace(), slope, field, z, None)
    assert np.allclose(split.value, slope * z + field(z), rtol=1e-5)
    assert np.allclose(split.trace, slope.sum(axis=(1, 2)) + np.trace(MATRIX), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HutchinsonTrace(0), "probes = 0"),
        (lambda: estimates(HutchinsonTrace(segments=2)), r"give it probe_at\(probe"),
        (lambda: HutchPlusPlus(4), "multiple of 3"),
        (lambda: ExactTrace(0), "chunk = 0"),
        (
            lambda: HutchinsonTrace(7, Orthogonal()).draw_probe(jax.random.key(0), SHAPE),
            "at most 6",
        ),
        (lambda: HutchPlusPlus(21).draw_probe(jax.random.key(0), SHAPE), "at most that"),
    ],
)
def test_impossible_numbers_of_probes_are_refused_with_a_remedy(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_rademacher_probes_are_signs():
    assert set(np.unique(Rademacher().draw(jax.random.key(0), 3, SHAPE))) == {-1.0, 1.0}


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_renewed_probes_of_an_example_follow_its_own_key_and_place(kind):
    trace = HutchinsonTrace(segments=64)
    keys = jax.random.split(jax.random.key(3, impl=kind), 2)
    drawn = draw_probes(trace, keys, SHAPE)
    at = lambda *share: np.asarray(trace.probe_at(drawn, jnp.asarray(share), SHAPE))  # noqa: E731
    assert at(0.5, 0.5).shape == (2, 1, *SHAPE)
    first = at(0.5, 0.5)
    assert np.array_equal(at(0.1, 0.5)[1], first[1])
    assert not np.array_equal(first[0], first[1])
    # Rounding does not choose where equal steps end, and each of them has a probe of its own.
    one = draw_probes(trace, jnp.repeat(keys[:1], 65, axis=0), (40,))
    ends = np.arange(65) / 64
    probes = [trace.probe_at(one, jnp.asarray(ends + move), (40,)) for move in (0.0, 1e-4, -1e-4)]
    assert np.array_equal(probes[0], probes[1]) and np.array_equal(probes[0], probes[2])
    assert len(np.unique(np.asarray(probes[0]).reshape(65, -1), axis=0)) == 65
