"""Levels and values, and the one gate through which images enter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.errors import UserError


@pytest.mark.parametrize("levels", [2, 5, 17, 256])
def test_encodings_are_the_centres_of_equal_bins_and_decode_to_themselves(levels):
    pixels = Pixels((1, 1, 1), levels)
    x = np.asarray(pixels.encode(np.arange(levels)))
    assert np.allclose(x, np.linspace(-1 + 1 / levels, 1 - 1 / levels, levels), atol=1e-7)
    assert np.array_equal(pixels.nearest(jnp.asarray(x)), np.arange(levels))
    inside = 0.999 / levels
    for shift in (-inside, inside):
        assert np.array_equal(pixels.nearest(jnp.asarray(x + shift)), np.arange(levels))
    assert np.array_equal(pixels.nearest(jnp.asarray([-7.0, 7.0])), [0, levels - 1])


def test_decoder_is_a_probability_over_the_levels_and_its_mode_is_the_nearest():
    pixels = Pixels((1, 1, 1), 5)
    rescaled = jnp.asarray([-1.3, -0.1, 0.05, 0.77]).reshape(-1, 1, 1, 1)
    gamma_0 = -2.0

    def log_probability(level):
        deviation = (rescaled - pixels.encode(level)) * np.exp(-0.5 * gamma_0)
        return pixels.log_probability(jnp.full((4, 1, 1, 1), level), deviation, gamma_0)

    probabilities = np.exp([log_probability(level) for level in range(5)])
    assert np.allclose(probabilities.sum(axis=0), 1.0, rtol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=0), pixels.nearest(rescaled).ravel())
    many = jnp.broadcast_to(rescaled[1], (20_000, 1, 1, 1))
    drawn = np.asarray(pixels.draw(jax.random.key(0), many, gamma_0)).ravel()
    shares = np.bincount(drawn, minlength=5) / len(drawn)
    assert np.allclose(shares, probabilities[:, 1], atol=0.015)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_type_are_levels(dtype):
    pixels = Pixels((2, 2, 1), 17)
    images = (np.arange(8).reshape(2, 2, 2, 1) * 2).astype(dtype)
    checked = pixels.check(images)
    assert checked.dtype.kind in "iu"
    assert np.array_equal(checked, images)
    assert pixels.check(images[0]).shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((5, 1, 2, 2)), r"put the channels last, by np\.moveaxis\(images, -3, -1\)"),
        (np.zeros((5, 2, 2)), r"give them an axis of channels, by images\[\.\.\., None\]"),
        (np.zeros((2, 3, 8, 8)), "look channels-first, with 3 channels, and the model takes 1"),
        (np.zeros((2, 4, 2, 2)), "give images of that size, or set model.pixels.shape"),
        (np.zeros((5, 3, 2, 2, 1)), r"\(5, 3, 2, 2, 1\) have 5 axes: give images \[n, height"),
        (np.full((1, 2, 2, 1), 17), "from 17 to 17, but 17 levels are 0..16"),
        (np.full((1, 2, 2, 1), -1), "from -1 to -1"),
        (np.full((1, 2, 2, 1), 1e30), "1e\\+30"),
        (np.full((1, 2, 2, 1), 0.5), "hold 0.5, but levels are whole numbers 0..16"),
        (np.full((1, 2, 2, 1), np.nan), "hold nan"),
        (np.full((1, 2, 2, 1), np.inf), "hold inf"),
        (np.full((1, 2, 2, 1), True), "type bool"),
        (np.full((1, 2, 2, 1), 1j), "type complex128"),
        (np.zeros((1, 2, 2, 3), int), r"shape \(1, 2, 2, 3\) do not end in \(2, 2, 1\)"),
        (np.zeros((2, 2), int), r"shape \(2, 2\)"),
    ],
)
def test_what_is_no_image_is_refused_with_its_value_the_rule_and_a_remedy(images, words):
    with pytest.raises(UserError, match=words) as refusal:
        Pixels((2, 2, 1), 17).check(images)
    assert ": " in str(refusal.value)  # …: the remedy


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pixels((8, 8), 256), "shape ="),
        (lambda: Pixels((8, 0, 1), 256), "shape ="),
        (lambda: Pixels(levels=1), "levels = 1"),
    ],
)
def test_impossible_pixels_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
