"""Training batches: endless, every epoch a permutation, resumable."""

import json

import numpy as np
import pytest

from data.augmentation import FlipRotate
from data.pipeline import Data
from data.source import describe_images
from data.sources.array_file import ArrayFile
from data.sources.digits import Digits
from diffusion_ode.errors import UserError


@pytest.fixture(scope="module")
def digits():
    data = Data(Digits(), FlipRotate())
    return data, data.load()


def draw(batches, count):
    return [next(batches) for _ in range(count)]


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_batch_has_the_promised_arrays(digits):
    data, images = digits
    batch = next(data.train_batches(images, batch_size=16, seed=0))
    kinds = {name: (array.dtype, array.shape) for name, array in batch.items()}
    assert kinds == {
        "image": (np.uint8, (16, 8, 8, 1)),
        "flag": (np.float32, (16,)),
        "index": (np.int64, (16,)),
    }


def test_every_epoch_is_a_full_permutation_of_its_own(digits):
    """1500 is no multiple of 128: batches span two epochs, and nothing is dropped."""
    data, images = digits
    batches = data.train_batches(images, batch_size=128, seed=0)
    index = np.concatenate([batch["index"] for batch in draw(batches, 48)])
    epochs = index[: 4 * 1500].reshape(4, 1500)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(1500))
    for k in range(3):
        assert (epochs[k] == epochs[k + 1]).mean() < 0.01


def test_batches_of_one_image_are_the_order_of_larger_ones(digits):
    data, images = digits
    one, many = (data.train_batches(images, batch_size=size, seed=0) for size in (1, 20))
    alone = np.concatenate([batch["index"] for batch in draw(one, 20)])
    np.testing.assert_array_equal(alone, next(many)["index"])


def test_images_are_those_of_their_indices(digits):
    _, images = digits
    for batch in draw(Data(Digits()).train_batches(images, batch_size=50, seed=3), 5):
        np.testing.assert_array_equal(batch["image"], images.train[batch["index"]])
        assert not batch["flag"].any()


def test_epoch_of_an_example_changes_at_the_boundary_within_a_batch(digits):
    data, images = digits
    batches = data.train_batches(images, batch_size=128, seed=0)
    spanning = batches[11]  # Examples 1408 to 1535: 92 of the first epoch, 36 of the second.
    from data.augmentation import Keys

    epoch = np.repeat([0, 1], [92, 36])
    keys = Keys.fold(0, spanning["index"], epoch)
    expected = FlipRotate().apply(images.train[spanning["index"]], keys)
    np.testing.assert_array_equal(spanning["image"], expected.images)
    np.testing.assert_array_equal(spanning["flag"], expected.flag)


@pytest.mark.parametrize("stop", [1, 11, 12, 30])
def test_resumed_batches_are_those_of_the_uninterrupted_run(digits, stop):
    data, images = digits
    whole = draw(data.train_batches(images, batch_size=128, seed=5), 40)
    first = data.train_batches(images, batch_size=128, seed=5)
    begun = draw(first, stop)
    state = json.loads(json.dumps(first.get_state()))
    assert state == {"next_index": stop}  # Prefetched batches do not count as drawn.
    resumed = data.train_batches(images, batch_size=128, seed=5)
    resumed.set_state(state)
    assert_same(begun + draw(resumed, 40 - stop), whole)


@pytest.mark.parametrize("count", [2, 4])
def test_order_does_not_depend_on_the_number_of_processes(digits, count):
    data, images = digits
    whole = draw(data.train_batches(images, batch_size=64, seed=1), 30)
    shares = [
        draw(data.train_batches(images, batch_size=64, seed=1, rows=np.arange(64)[k::count]), 30)
        for k in range(count)
    ]
    joined = [
        {
            name: np.stack([share[name] for share in parts], 1).reshape(whole[0][name].shape)
            for name in parts[0]
        }
        for parts in zip(*shares, strict=True)
    ]
    assert_same(joined, whole)


def test_another_seed_draws_another_order(digits):
    data, images = digits
    one, other = (data.train_batches(images, batch_size=64, seed=seed)[0] for seed in (0, 1))
    assert (one["index"] != other["index"]).any()


def test_buffers_are_never_reused(digits):
    data, images = digits
    batches = data.train_batches(images, batch_size=64, seed=0)
    one, other = next(batches), next(batches)
    kept = one["image"].copy()
    assert one["image"].flags.writeable and not np.shares_memory(one["image"], other["image"])
    assert not np.shares_memory(one["image"], images.train)
    other["image"][:] = 0
    np.testing.assert_array_equal(one["image"], kept)


def test_batches_that_cannot_be_drawn_are_refused(digits):
    data, images = digits
    with pytest.raises(UserError, match="at least 1"):
        data.train_batches(images, batch_size=0, seed=0)
    with pytest.raises(UserError, match="seed"):
        data.train_batches(images, batch_size=64, seed=-1)


def test_the_last_training_images_are_held_out(digits):
    _, images = digits
    split = Data(Digits(), held_out=100).load()
    np.testing.assert_array_equal(split.train, images.train[:-100])
    np.testing.assert_array_equal(split.validation, images.train[-100:])
    assert len(Data(Digits(), held_out=1499).load().train) == 1
    with pytest.raises(UserError, match="1500 of 1500 training images"):
        Data(Digits(), held_out=1500).load()


def test_held_out_images_that_are_trained_on_are_refused(tmp_path):
    images = np.arange(6 * 48, dtype=np.uint8).reshape(6, 4, 4, 3)
    images[3] = images[0]
    np.save(tmp_path / "twice.npy", images)
    source = ArrayFile(str(tmp_path / "twice.npy"), num_test=1)
    with pytest.raises(UserError, match="1 of the 2 validation images are training images"):
        Data(source, held_out=2).load()


def test_seeds_have_32_bits_and_augmentations_a_shape(tmp_path, digits):
    data, images = digits
    data.train_batches(images, batch_size=1, seed=2**32 - 1).close()
    with pytest.raises(UserError, match="The seed is 4294967296: choose one from 0"):
        data.train_batches(images, batch_size=1, seed=2**32)
    np.save(tmp_path / "wide.npy", np.zeros((20, 4, 8, 3), np.uint8))
    with pytest.raises(UserError, match="square"):
        wide = Data(ArrayFile(str(tmp_path / "wide.npy")), FlipRotate())
        wide.train_batches(images, batch_size=1, seed=0)


def test_batch_larger_than_the_data_set_is_filled_from_several_epochs(tmp_path):
    images = np.arange(5 * 48, dtype=np.uint8).reshape(5, 4, 4, 3)
    np.save(tmp_path / "few.npy", images)
    data = Data(ArrayFile(str(tmp_path / "few.npy"), num_test=2))
    batch = next(data.train_batches(data.load(), batch_size=9, seed=0))
    assert np.bincount(batch["index"]).tolist() == [3, 3, 3]


def test_memory_mapped_images_are_copied_into_batches(tmp_path, digits):
    _, images = digits
    np.save(tmp_path / "train.npy", images.train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    batch = next(
        Data(Digits()).train_batches(
            describe_images(Digits(), mapped, images.test), batch_size=8, seed=0
        )
    )
    assert type(batch["image"]) is np.ndarray
    assert not np.shares_memory(batch["image"], mapped)
