"""What is done to an example in an epoch depends on seed, example and epoch alone."""

import numpy as np
import pytest

from data.augmentation import Flip, FlipRotate, Keys
from diffusion_ode.errors import UserError


def numbered(count, size=4, channels=3):
    """Images all of whose values differ, so that every change shows."""
    values = np.arange(size * size * channels, dtype=np.uint8).reshape(1, size, size, channels)
    return np.repeat(values, count, axis=0)


def keys(count, seed=0, epoch=0):
    return Keys.fold(seed, np.arange(count), np.full(count, epoch))


@pytest.mark.parametrize(
    ("augmentation", "unchanged"), [(FlipRotate(), 1 / 4), (FlipRotate(True), 1 / 8)]
)
def test_flag_is_zero_exactly_where_nothing_was_done(augmentation, unchanged):
    images = numbered(20_000)
    augmented = augmentation.apply(images, keys(len(images)))
    same = (augmented.images == images).all((1, 2, 3))
    # A flip and a half turn, say, never undo each other: the flag tells the truth.
    np.testing.assert_array_equal(augmented.flag == 0, same)
    assert augmented.flag.dtype == np.float32
    assert abs(same.mean() - unchanged) < 0.01


def test_a_flip_comes_every_other_time_and_is_told_to_nobody():
    images = numbered(20_000)
    augmented = Flip().apply(images, keys(len(images)))
    same = (augmented.images == images).all((1, 2, 3))
    assert abs(same.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(augmented.images[~same], images[~same][:, :, ::-1])
    assert not augmented.flag.any()


def test_each_change_comes_with_its_published_probability():
    images = numbered(40_000)
    changed = FlipRotate().apply(images, keys(len(images))).images
    expected = {}
    for flip in (False, True):
        base = images[0][:, ::-1] if flip else images[0]
        for turn in range(4):
            expected[np.rot90(base, turn).tobytes()] = 1 / 4 if turn == 0 else 1 / 12
    found, counts = np.unique(changed.reshape(len(images), -1), axis=0, return_counts=True)
    assert {row.tobytes() for row in found} == set(expected)
    for row, count in zip(found, counts, strict=True):
        assert abs(count / len(images) - expected[row.tobytes()]) < 0.01


def test_channels_are_permuted_half_the_time_by_all_orders_alike():
    images = np.tile(np.array([1, 2, 3], np.uint8), (60_000, 2, 2, 1))
    changed = FlipRotate(permute_channels=True).apply(images, keys(len(images))).images[:, 0, 0]
    orders, counts = np.unique(changed, axis=0, return_counts=True)
    assert len(orders) == 6
    identity = (orders == [1, 2, 3]).all(1)
    np.testing.assert_allclose(counts[identity] / len(images), 1 / 2, atol=0.01)
    np.testing.assert_allclose(counts[~identity] / len(images), 1 / 10, atol=0.01)


def test_shuffled_channels_are_the_published_ones_with_the_identity_among_the_orders():
    images = numbered(200_000)
    augmented = FlipRotate(shuffle_channels=True).apply(images, keys(len(images)))
    unflagged, same = augmented.flag == 0, (augmented.images == images).all((1, 2, 3))
    assert same[unflagged].all()
    assert abs(unflagged.mean() - 1 / 8) < 0.003
    assert abs((same & ~unflagged).mean() - 1 / 4 * 1 / 2 * 1 / 6) < 0.001
    colours = np.tile(np.array([1, 2, 3], np.uint8), (60_000, 2, 2, 1))
    shuffled = FlipRotate(shuffle_channels=True).apply(colours, keys(len(colours))).images[:, 0, 0]
    orders, counts = np.unique(shuffled, axis=0, return_counts=True)
    expected = np.where((orders == [1, 2, 3]).all(1), 1 / 2 + 1 / 12, 1 / 12)
    np.testing.assert_allclose(counts / len(colours), expected, atol=0.005)
    assert len(orders) == 6


def test_channels_are_not_both_permuted_and_shuffled():
    with pytest.raises(UserError, match=r"permute_channels=False"):
        FlipRotate(permute_channels=True, shuffle_channels=True)


def test_change_does_not_depend_on_the_batch_an_example_is_in():
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    index, epoch = np.arange(64), np.arange(64) // 20
    whole = FlipRotate(True).apply(images, Keys.fold(7, index, epoch))
    order = np.random.default_rng(1).permutation(64)
    for part in np.array_split(order, 5):
        some = FlipRotate(True).apply(images[part], Keys.fold(7, index[part], epoch[part]))
        np.testing.assert_array_equal(some.images, whole.images[part])
        np.testing.assert_array_equal(some.flag, whole.flag[part])


def test_seed_example_and_epoch_each_change_the_draws():
    base = keys(1000).integers(0, 2)
    for other in (
        keys(1000, seed=1),
        keys(1000, epoch=1),
        Keys.fold(0, np.arange(1, 1001), 0 * base),
    ):
        assert abs((other.integers(0, 2) == base).mean() - 0.5) < 0.06
    assert abs((keys(1000).integers(1, 2) == base).mean() - 0.5) < 0.06


def test_input_is_left_as_it_was():
    images = numbered(50)
    FlipRotate(True).apply(images, keys(50))
    np.testing.assert_array_equal(images, numbered(50))


def test_images_that_cannot_be_turned_or_permuted_are_refused():
    with pytest.raises(UserError, match=r"2×4.*data\.augmentation=None"):
        FlipRotate().check((2, 4, 3))
    with pytest.raises(UserError, match="permute_channels=False"):
        FlipRotate(True).check((4, 4, 1))
    with pytest.raises(UserError, match="shuffle_channels=False"):
        FlipRotate(shuffle_channels=True).check((4, 4, 1))
