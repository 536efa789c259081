"""The parts of a standard error, found from a subset that is drawn again."""

import math

import numpy as np
import pytest

from diffusion_ode.inference.uncertainty import standard_error, uncertainty


def test_parts_add_up_in_squares_and_find_what_was_put_in():
    rng = np.random.default_rng(0)
    n, subset = 4000, 2000
    image = rng.normal(2.0, 0.3, n)

    def measured(noise, probe):
        return dict(enumerate(image[: len(noise)] + noise + probe))

    noise, probe = rng.normal(0.0, 0.2, n), rng.normal(0.0, 0.1, n)
    values = measured(noise, probe)
    parts = uncertainty(
        values,
        measured(rng.normal(0.0, 0.2, subset), probe[:subset]),
        measured(noise[:subset], rng.normal(0.0, 0.1, subset)),
        {index: value - 0.01 for index, value in values.items() if index < subset},
    )
    assert parts.dequantization == pytest.approx(0.2 / math.sqrt(n), rel=0.05)
    assert parts.probes == pytest.approx(0.1 / math.sqrt(n), rel=0.05)
    assert parts.images == pytest.approx(0.3 / math.sqrt(n), rel=0.05)
    assert parts.solver == pytest.approx(0.01)
    squares = parts.images**2 + parts.dequantization**2 + parts.probes**2
    assert squares == pytest.approx(parts.total**2)


def test_single_image_has_no_standard_error():
    assert standard_error(np.asarray([2.0])) == math.inf
    parts = uncertainty({3: 2.0}, {}, {}, {})
    assert (parts.images, parts.dequantization, parts.probes, parts.solver) == (None,) * 4
