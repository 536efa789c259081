"""CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009)."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.errors import damaged
from data.formats import restricted_pickle
from data.formats.archive import folder_members, tar_members
from data.formats.planes import check_rows, images_from_planes, rows_from_records
from data.recipe import Block, PublishedFile, Reading, Recipe
from data.source import ImageData
from data.sources.tfrecords import has_tfrecords, read_tfrecords
from data.store import open_published
from diffusion_ode.foreign import read_regular

# Either archive unpacks to about 185 MB.
MAX_UNPACKED_BYTES = 1 << 28
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
BATCHES = TRAIN_BATCHES + TEST_BATCHES
# Where the archives' files lie once unpacked, if the path is the folder above.
UNPACKED_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py")


@dataclasses.dataclass(frozen=True)
class Cifar10:
    """Colour photographs of 32×32, 256 levels: 50 000 to train, 10 000 to test."""

    name = "cifar10"
    shape = (32, 32, 3)
    levels = 256
    held_out = 5000  # the last training images, where one chooses; papers train on all of them

    def load(self, data_dir: Path | None = None) -> ImageData:
        return open_published(self, RECIPE, data_dir)


def read(path: Path) -> Reading:
    """The images at a path: an archive of either kind, its unpacked folder, or TFRecords."""
    if path.is_dir():
        for file in RECIPE.files + RECIPE.other_files:
            if (path / file.name).is_file():
                return _read_archive(path / file.name)
        if has_tfrecords(path):
            return read_tfrecords(path, Cifar10.shape)
        return _read_folder(path)
    return _read_archive(path)


def _read_archive(path: Path) -> Reading:
    def contents() -> dict[str, bytes]:
        members = tar_members(path, max_bytes=MAX_UNPACKED_BYTES)
        # A gzipped archive can only be read from front to back: all of it, once.
        return {
            member.base_name: member.read() for member in members if _is_batch(member.base_name)
        }

    return _reading((path,), path, functools.cache(contents))


def _read_folder(path: Path) -> Reading:
    for name in UNPACKED_FOLDERS:
        if (path / name).is_dir():
            return _read_folder(path / name)
    files = tuple(path / member.name for member in folder_members(path) if _is_batch(member.name))
    return _reading(
        files, path, lambda: {file.name: read_regular(file, MAX_UNPACKED_BYTES) for file in files}
    )


def _is_batch(name: str) -> bool:
    return name.removesuffix(".bin") in BATCHES


def _reading(
    files: tuple[Path, ...], path: Path, contents: Callable[[], dict[str, bytes]]
) -> Reading:
    train, test = (_blocks(path, contents, names) for names in (TRAIN_BATCHES, TEST_BATCHES))
    return Reading(files, train, test)


def _blocks(
    path: Path, contents: Callable[[], dict[str, bytes]], names: tuple[str, ...]
) -> Iterator[Block]:
    for name in names:
        yield functools.partial(_decode, path, contents, name)


def _decode(path: Path, contents: Callable[[], dict[str, bytes]], name: str) -> np.ndarray:
    files = contents()
    row_bytes = math.prod(Cifar10.shape)
    if f"{name}.bin" in files:
        rows = rows_from_records(files[f"{name}.bin"], row_bytes, f"{path}: {name}.bin")
    elif name in files:
        batch = restricted_pickle.load(files[name], f"{path}: {name}")
        data = batch.get("data") if isinstance(batch, dict) else None
        rows = check_rows(data, row_bytes, f"{path}: {name}")
    else:
        found = f"has {', '.join(sorted(files)) or 'none'} of CIFAR-10's batches"
        raise damaged(path, found, f"{name}.bin or {name} too")
    return images_from_planes(rows, Cifar10.shape)


RECIPE = Recipe(
    source=Cifar10(),
    num_train=50_000,
    num_test=10_000,
    files=(
        PublishedFile(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        ),
    ),
    other_files=(
        PublishedFile(
            "cifar-10-python.tar.gz", 170_498_071, "md5:c58f30108f718f92721af3b95e74349a"
        ),
    ),
    page="https://www.cs.toronto.edu/~kriz/cifar.html",
    read=read,
)

DATA_SETS = (RECIPE,)
