"""From images to batches: shuffled and endless, for training.

A batch is a dict of new NumPy arrays, never reused (JAX may alias a host buffer handed to it):
    image   uint8 [b,h,w,c], values 0 … levels − 1
    flag    float32 [b], 1 where the image was augmented
    index   int64 [b], the image's position in its split
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.augmentation import Augmentation, Keys
from data.source import ImageData, Source
from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import CountFromZero

Batch = dict[str, np.ndarray]

# Gathering a batch takes about a millisecond: one thread would do, the second hides page faults
# of the memory map, and a handful of batches ready is enough to never wait.
NUM_THREADS = 2
PREFETCHED_BATCHES = 4
# Grain's seeds have 32 bits.
_SEEDS = 1 << 32
# Images; of Grain's own endless stream the batches of one image are too many to be counted.
_ENDLESS = 1 << 53


@dataclasses.dataclass(frozen=True)
class Data:
    """A source of images and how training sees them.

    Attributes:
        source: where images come from.
        augmentation: what is done to training images; None leaves them as they are.
        held_out: how many images at the end of the training set are not trained on but choose, for
            instance the best checkpoint; sources name a number that suits them.
    """

    source: Source
    augmentation: Augmentation | None = None
    held_out: CountFromZero = 0

    __post_init__ = check_fields

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.source.shape

    @property
    def levels(self) -> int:
        return self.source.levels

    def load(self, data_dir: Path | None = None) -> ImageData:
        """The images, some of them held out.

        Raises:
            MissingData: they are not there; says how to get them.
            UserError: too many are to be held out, or some of those are training images as well.
        """
        images = self.source.load(data_dir)
        if self.held_out:
            if images.validation is not None:
                raise UserError(
                    f"{self.name} has {len(images.validation)} validation images of its own, so"
                    f" data.held_out = {self.held_out} more are not needed: set data.held_out=0."
                )
            if not 0 < self.held_out < len(images.train):
                raise UserError(
                    f"data.held_out = {self.held_out} of {len(images.train)} training images"
                    " cannot be held out: give a number between, or 0."
                )
            train, validation = images.train[: -self.held_out], images.train[-self.held_out :]
            images = dataclasses.replace(images, train=train, validation=validation)
        if images.validation is not None:
            _check_apart(images.train, images.validation)
        return images

    def train_batches(
        self,
        images: ImageData,
        *,
        batch_size: int,
        seed: int,
        rows: np.ndarray | None = None,
    ) -> "TrainBatches":
        """Endless batches in which every epoch is a full, newly drawn permutation.

        Args:
            images: what `load` gave.
            batch_size: images per global batch, over all processes.
            seed: decides the order and the augmentation.
            rows: the positions in every global batch that this process gets; None for all. They do
                not change the order.
        """
        if batch_size < 1:
            raise UserError(f"A batch of {batch_size} images cannot be drawn: give at least 1.")
        if not 0 <= seed < _SEEDS:
            raise UserError(f"The seed is {seed}: choose one from 0 to {_SEEDS - 1}.")
        if len(images.train) == 0:
            raise UserError(f"{self.name} has no training images: choose another data.source.")
        if self.augmentation is not None:
            self.augmentation.check(self.shape)
        if rows is None:
            rows = np.arange(batch_size)
        gather = _Gather(images.train, self.augmentation, seed, batch_size, rows)
        return TrainBatches(gather, len(images.train), batch_size, seed)


def _check_apart(train: np.ndarray, validation: np.ndarray) -> None:
    """Refuses validation images that are trained on."""
    held_out = {image.tobytes() for image in validation}
    both = held_out.intersection(image.tobytes() for image in train)
    if both:
        count = sum(image.tobytes() in both for image in validation)
        raise UserError(
            f"{count} of the {len(validation)} validation images are training images as well, so"
            " they cannot choose: remove them, or hold out others by data.held_out."
        )


class _Gather:
    """Turns the positions of a global batch into this process's slice of it, all at once."""

    def __init__(
        self,
        images: np.ndarray,
        augmentation: Augmentation | None,
        seed: int,
        batch_size: int,
        rows: np.ndarray,
    ):
        self._images = images
        self._augmentation = augmentation
        self._seed = seed
        self._batch_size = batch_size
        self._rows = rows

    def __call__(self, number: int, indices: np.ndarray) -> Batch:
        # Sliced here, after batching globally, so that the order is that of a single process.
        index = np.asarray(indices[self._rows], np.int64)
        image = np.asarray(self._images[index])  # Fancy indexing copies: a fresh buffer.
        flag = np.zeros(len(index), np.float32)
        if self._augmentation is not None:
            position = number * self._batch_size + np.arange(self._batch_size)[self._rows]
            keys = Keys.fold(self._seed, index, position // len(self._images))
            augmented = self._augmentation.apply(image, keys)
            image, flag = augmented.images, augmented.flag
        return {"image": image, "flag": flag, "index": index}


class TrainBatches(Iterator[Batch]):
    """Endless training batches on Grain, resumable by a count of batches.

    Repeating comes before batching, knowingly: an epoch is a full permutation of all images, a
    batch may span two epochs, and no image is ever dropped (1500 images in batches of 128 leave
    92, which open the batch that the next epoch completes). An example's epoch, which its
    augmentation is drawn for, is its position in the whole stream // the number of images.
    """

    def __init__(self, gather: _Gather, num_images: int, batch_size: int, seed: int):
        import grain  # Takes half a second: not at the program's start.

        self._dataset = (
            grain.MapDataset.range(num_images)
            .seed(seed)
            .shuffle()
            .repeat(_ENDLESS // num_images)
            .batch(batch_size)
            .map_with_index(gather)
        )
        options = grain.ReadOptions(
            num_threads=NUM_THREADS, prefetch_buffer_size=PREFETCHED_BATCHES
        )
        self._iterator = iter(self._dataset.to_iter_dataset(options))

    def __iter__(self) -> "TrainBatches":
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def __getitem__(self, number: int) -> Batch:
        """Batch `number` of the stream, wherever the iterator stands."""
        batch = self._dataset[number]
        assert batch is not None  # Grain's type allows for filtered elements.
        return batch

    def get_state(self) -> dict[str, int]:
        """Says `{"next_index": k}` if batch k is drawn next; prefetched ones are not counted."""
        return {"next_index": int(self._iterator.get_state()["next_index"])}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from a state of `get_state`, of any process count but the same batch size."""
        self._iterator.set_state({"next_index": int(state["next_index"])})

    def close(self) -> None:
        """Stop the reading threads."""
        self._iterator.close()
