"""The parts of a standard error, found from a subset that is drawn again."""

import math

import numpy as np
import pytest

from diffusion_ode.evaluation.uncertainty import standard_error, uncertainty


def measured(rng, n, subset, *, image=0.3, noise=0.2, probe=0.1):
    """Parts for n images that spread by `image`, of which some are drawn again."""
    truth = rng.normal(2.0, image, n)
    noises, probes = rng.normal(0.0, noise, n), rng.normal(0.0, probe, n)
    values = dict(enumerate(truth + noises + probes))
    again = lambda a, b: dict(enumerate(truth[:subset] + a + b))  # noqa: E731
    other_probes = rng.normal(0.0, probe, subset)
    return uncertainty(
        values,
        again(rng.normal(0.0, noise, subset), other_probes),
        again(noises[:subset], other_probes),
        {index: values[index] - rng.normal(0.01, 0.02) for index in range(subset)},
    )


def test_parts_find_what_was_put_in_and_add_up_in_squares_where_all_are_resolved():
    n = 4000
    parts = measured(np.random.default_rng(0), n, 2000)
    assert parts.dequantization.value == pytest.approx(0.2 / math.sqrt(n), rel=0.05)
    assert parts.probes.value == pytest.approx(0.1 / math.sqrt(n), rel=0.05)
    assert parts.images.value == pytest.approx(0.3 / math.sqrt(n), rel=0.05)
    squares = sum(p.value**2 for p in (parts.images, parts.dequantization, parts.probes))
    assert squares == pytest.approx(parts.total**2)
    assert parts.probes.num_images == 2000


def test_every_part_is_within_its_own_error_of_what_was_put_in():
    rng, n, hits = np.random.default_rng(1), 300, []
    for _ in range(200):
        parts = measured(rng, n, 32)
        for part, true in ((parts.images, 0.3), (parts.dequantization, 0.2), (parts.probes, 0.1)):
            if part.value is not None:
                hits.append(abs(part.value - true / math.sqrt(n)) < 2 * part.standard_error)
    assert len(hits) > 400
    assert np.mean(hits) > 0.85


def test_part_that_few_images_cannot_tell_from_nothing_is_said_to_be_unresolved_and_never_zero():
    # The images hardly differ, so that what is left of the whole is less than its own error.
    rng = np.random.default_rng(2)
    parts = [measured(rng, 300, 16, image=0.03).images for _ in range(200)]
    unresolved = [part for part in parts if part.value is None]
    assert len(unresolved) > 150
    assert {(part.standard_error, part.num_images) for part in unresolved} == {(None, 16)}
    assert all(part.value > 0.003 for part in parts if part.value is not None)


def test_solvers_error_has_an_error_and_the_size_of_a_single_images():
    solver = measured(np.random.default_rng(3), 2000, 1000).solver
    assert solver.standard_error == pytest.approx(0.02 / math.sqrt(1000), rel=0.1)
    assert abs(solver.mean - 0.01) < 3 * solver.standard_error
    assert solver.rms == pytest.approx(math.hypot(0.01, 0.02), rel=0.1)
    assert solver.num_images == 1000
    alone = uncertainty({0: 2.0, 1: 3.0}, {}, {}, {1: 2.9}).solver
    assert (alone.standard_error, alone.num_images) == (None, 1)


def test_what_noise_and_probes_do_only_together_is_counted_once():
    rng, n = np.random.default_rng(5), 4000
    truth, noise, other_noise = rng.normal(0.0, 0.3, n), *rng.normal(0.0, 0.2, (2, n))
    probe, other_probe = rng.normal(0.0, 1.0, (2, n))

    def value(u, v):
        return dict(enumerate(truth + u + u * v))

    parts = uncertainty(
        value(noise, probe), value(other_noise, other_probe), value(noise, other_probe), {}
    )
    assert parts.images.value == pytest.approx(0.3 / math.sqrt(n), rel=0.05)
    assert parts.dequantization.value == pytest.approx(0.2 / math.sqrt(n), rel=0.1)
    assert parts.probes.value == pytest.approx(0.2 / math.sqrt(n), rel=0.1)


def test_exact_trace_has_no_part_and_the_others_add_up_without_it():
    rng = np.random.default_rng(4)
    truth, noise = rng.normal(0.0, 0.3, 400), rng.normal(0.0, 0.2, 400)
    again = dict(enumerate(truth + rng.normal(0.0, 0.2, 400)))
    parts = uncertainty(dict(enumerate(truth + noise)), again, None, {})
    assert parts.probes is None
    squares = parts.images.value**2 + parts.dequantization.value**2
    assert squares == pytest.approx(parts.total**2)


def test_what_was_not_drawn_again_is_unknown():
    assert standard_error(np.asarray([2.0])) == math.inf
    for values in ({3: 2.0}, {3: 2.0, 4: 2.1}):
        parts = uncertainty(values, {}, {}, {})
        nothing = (parts.images, parts.dequantization, parts.probes, parts.solver)
        assert nothing == (None,) * 4
    # One image drawn again tells nothing of its own error.
    part = uncertainty({3: 2.0, 4: 2.1}, {3: 2.05}, None, {}).dequantization
    assert (part.value, part.num_images) == (None, 1)
