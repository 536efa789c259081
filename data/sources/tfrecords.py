"""Folders of TFRecord files as `tensorflow_datasets` writes them: how some data sets are passed on.

They hold the same images in an order of their own, so their fingerprint differs from that of the
publisher's archives.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.errors import damaged
from data.formats import picture, tfrecord
from data.recipe import Block, Reading

# What tensorflow_datasets calls the images that are not trained on.
TEST_SPLITS = ("test", "validation", "valid", "val")


def has_tfrecords(folder: Path) -> bool:
    """Whether there are TFRecord files in a folder or up to two levels below."""
    return next(tfrecord.files(folder), None) is not None


def read_tfrecords(folder: Path, shape: tuple[int, int, int]) -> Reading:
    """The PNG pictures in the feature `image` of a folder's training and test files."""
    splits = tfrecord.shards(folder)
    test = next((splits[name] for name in TEST_SPLITS if name in splits), None)
    train = splits.get("train")
    if train is None or test is None:
        found = f"has TFRecord files of {', '.join(splits) or 'no split'}"
        raise damaged(folder, found, f"train and one of {', '.join(TEST_SPLITS)}")
    return Reading((*train, *test), _blocks(train, shape), _blocks(test, shape))


def _blocks(files: list[Path], shape: tuple[int, int, int]) -> Iterator[Block]:
    for file in files:
        for records in tfrecord.blocks_of_records(file):
            yield lambda records=records, label=str(file): _decode(records, label, shape)


def _decode(records: list[bytes], label: str, shape: tuple[int, int, int]) -> np.ndarray:
    pictures = (tfrecord.example_bytes(record, "image", label) for record in records)
    return np.stack([picture.decode(content, label, shape=shape) for content in pictures])
