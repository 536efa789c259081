"""Random numbers that belong to an image's position in the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.randomness import batch_key, shifted

KEY = batch_key(jax.random.key(0))


def uniform(key, images: int):
    return np.asarray(jax.random.uniform(key, (images, 5, 3)))


def test_a_part_of_a_batch_draws_what_the_whole_draws_there():
    np.testing.assert_array_equal(uniform(KEY, 8)[3:5], uniform(shifted(KEY, 3), 2))
    further = shifted(shifted(KEY, 1), 2)
    np.testing.assert_array_equal(uniform(KEY, 8)[3:5], uniform(further, 2))


@pytest.mark.parametrize(
    "derive",
    [lambda key: jax.random.fold_in(key, 7), lambda key: jax.random.split(key, 3)[2]],
    ids=["fold_in", "split"],
)
def test_derived_keys_keep_the_position_and_draw_anew(derive):
    whole = uniform(derive(KEY), 8)
    np.testing.assert_array_equal(whole[4:], uniform(derive(shifted(KEY, 4)), 4))
    assert not (whole == uniform(KEY, 8)).any()


def test_numbers_are_uniform_and_all_different():
    numbers = np.asarray(jax.random.uniform(KEY, (64, 256)))
    assert len(np.unique(numbers)) > 0.99 * numbers.size  # float32 has 2²³ values in [0, 1)
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert numbers.var() == pytest.approx(1 / 12, rel=0.02)
    along_images, within = (
        np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel()),
        np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel()),
    )
    assert abs(along_images[0, 1]) < 0.03 and abs(within[0, 1]) < 0.03


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_narrow_numbers_are_drawn_too(bits):
    drawn = jax.random.bits(KEY, (4, 4), dtype=f"uint{bits}")
    assert drawn.dtype == f"uint{bits}"
    assert len(np.unique(np.asarray(drawn))) > 8


def test_flax_drops_the_same_for_an_image_in_any_part():
    dropout = nn.Dropout(0.5, deterministic=False)
    drop = lambda key, images: dropout.apply({}, jnp.ones((images, 4)), rngs={"dropout": key})  # noqa: E731
    np.testing.assert_array_equal(drop(KEY, 8)[6:], drop(shifted(KEY, 6), 2))


def test_64_bit_types_change_no_draw():
    with jax.enable_x64(True):
        wide = jax.random.uniform(batch_key(jax.random.key(0)), (8, 5, 3), "float32")
    np.testing.assert_array_equal(np.asarray(wide), uniform(KEY, 8))
