"""The two releases of ImageNet at 32×32. They are different images: figures are never compared.

The old one (van den Oord et al., "Pixel recurrent neural networks", 2016) is a pair of tar archives
of PNG files; the new one (Chrabaszcz et al., "A downsampled variant of ImageNet", 2017) is resized
with a box filter and comes as pickled batches or as .npz.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.errors import damaged
from data.formats import picture, restricted_pickle
from data.formats.archive import Member, folder_members, tar_members, zip_members
from data.formats.numpy_file import read_npz
from data.formats.planes import check_rows, images_from_planes
from data.recipe import Block, PublishedFile, Reading, Recipe, folder_of
from data.source import ImageData
from data.sources.tfrecords import has_tfrecords, read_tfrecords
from data.store import open_published

SHAPE = (32, 32, 3)
# The old release's tar is 4.1 GB, the new one's pickles 4 GB.
MAX_UNPACKED_BYTES = 6 << 30
PICTURES_PER_BLOCK = 4096
MAX_PICTURE_BYTES = 1 << 16  # of up to 64×64, in colour, however badly it is packed


@dataclasses.dataclass(frozen=True)
class ImageNet32Old:
    """ImageNet at 32×32 as first published: 1 281 149 images to train, 49 999 to test."""

    name = "imagenet32_old"
    shape = SHAPE
    levels = 256

    def load(self, data_dir: Path | None = None) -> ImageData:
        return open_published(self, RECIPE_OLD, data_dir)


@dataclasses.dataclass(frozen=True)
class ImageNet32New:
    """ImageNet at 32×32 as published since 2017: 1 281 167 images to train, 50 000 to test."""

    name = "imagenet32_new"
    shape = SHAPE
    levels = 256

    def load(self, data_dir: Path | None = None) -> ImageData:
        return open_published(self, RECIPE_NEW, data_dir)


def read_old(path: Path) -> Reading:
    """The PNG files in the two tar archives of a folder, in the archives' order; or TFRecords."""
    return read_pictures(path, ("train_32x32.tar", "valid_32x32.tar"), SHAPE, MAX_UNPACKED_BYTES)


def read_pictures(
    path: Path, names: tuple[str, str], shape: tuple[int, int, int], max_bytes: int
) -> Reading:
    """The PNG files of one shape in two tar archives, to train and to test; or TFRecords.

    Args:
      path: the folder that holds them.
      names: of the archives.
      shape: of every picture.
      max_bytes: that an archive may hold unpacked.
    """
    folder = folder_of(path, names)
    train, test = (folder / name for name in names)
    if not train.is_file() and has_tfrecords(path):
        return read_tfrecords(folder, shape)
    for file in (train, test):
        if not file.is_file():
            raise damaged(folder, f"has no {file.name}", f"{train.name} and {test.name}")
    blocks = (_picture_blocks(file, shape, max_bytes) for file in (train, test))
    return Reading((train, test), *blocks)


def _picture_blocks(path: Path, shape: tuple[int, int, int], max_bytes: int) -> Iterator[Block]:
    contents: list[tuple[str, bytes]] = []
    members = tar_members(path, max_bytes=max_bytes, max_member=MAX_PICTURE_BYTES)
    for member in members:
        if not member.name.lower().endswith(".png"):
            raise damaged(path, f"has {member.name!r}", "PNG files only")
        contents.append((member.name, member.read()))
        if len(contents) == PICTURES_PER_BLOCK:
            yield functools.partial(_decode_pictures, path, shape, contents)
            contents = []
    if contents:
        yield functools.partial(_decode_pictures, path, shape, contents)


def _decode_pictures(
    path: Path, shape: tuple[int, int, int], contents: list[tuple[str, bytes]]
) -> np.ndarray:
    return np.stack(
        [picture.decode(content, f"{path}: {name}", shape=shape) for name, content in contents]
    )


# In any of the forms, by the name of a batch's file.
TRAIN_BATCH = re.compile(r"train_data_batch_(\d+)(\.npz)?$")
TEST_BATCH = re.compile(r"val_data()(\.npz)?$")
TRAIN_PLACES = ("Imagenet32_train.zip", "Imagenet32_train_npz.zip")
TEST_PLACES = ("Imagenet32_val.zip", "Imagenet32_val_npz.zip")


def read_new(path: Path) -> Reading:
    """The batches in a folder's zip archives, pickled or npz, or unpacked; or TFRecords."""
    folder = folder_of(path, TRAIN_PLACES + TEST_PLACES)
    train = _batches(folder, TRAIN_PLACES, TRAIN_BATCH)
    test = _batches(folder, TEST_PLACES, TEST_BATCH)
    if train is None and test is None and has_tfrecords(path):
        return read_tfrecords(folder, SHAPE)
    for found, places in ((train, TRAIN_PLACES), (test, TEST_PLACES)):
        if found is None:
            raise damaged(folder, f"has no {places[0]}", f"{places[0]}, its npz form or its files")
    assert train is not None and test is not None
    return Reading(train[0] + test[0], _batch_blocks(train[1]), _batch_blocks(test[1]))


_Found = tuple[tuple[Path, ...], list[tuple[str, Member]]]


def _batches(folder: Path, places: tuple[str, ...], pattern: re.Pattern[str]) -> _Found | None:
    """The files to read and, in order, (label, member) of the batches; None if there are none."""
    for name in places:
        archive = folder / name
        if archive.is_file():
            members = _in_order(zip_members(archive, max_bytes=MAX_UNPACKED_BYTES), pattern)
            return (archive,), [(f"{archive}: {member.base_name}", member) for member in members]
    for unpacked in (*(folder / name.removesuffix(".zip") for name in places), folder):
        if unpacked.is_dir():
            members = _in_order(folder_members(unpacked), pattern)
            if members:
                files = tuple(unpacked / member.name for member in members)
                return files, [(str(unpacked / member.name), member) for member in members]
    return None


def _in_order(members: Iterator[Member], pattern: re.Pattern[str]) -> list[Member]:
    matches = [(pattern.match(member.base_name), member) for member in members]
    numbered = [(int(match[1] or 0), member) for match, member in matches if match is not None]
    return [member for _, member in sorted(numbered, key=lambda pair: pair[0])]


def _batch_blocks(members: list[tuple[str, Member]]) -> Iterator[Block]:
    for label, member in members:
        yield functools.partial(_decode_batch, label, member)


def _decode_batch(label: str, member: Member) -> np.ndarray:
    content = member.read()
    if member.name.endswith(".npz"):
        batch = read_npz(content, label, max_bytes=MAX_UNPACKED_BYTES)
    else:
        batch = restricted_pickle.load(content, label)
    data = batch.get("data") if isinstance(batch, dict) else None
    return images_from_planes(check_rows(data, math.prod(SHAPE), label), SHAPE)


RECIPE_OLD = Recipe(
    source=ImageNet32Old(),
    num_train=1_281_149,
    num_test=49_999,
    files=(
        PublishedFile(
            "train_32x32.tar",
            4_113_018_880,
            "sha256:244a323d48f8d72f65ad8b54658c01fed68d2d7bdc77ccb43da58c11e94224e5",
        ),
        PublishedFile(
            "valid_32x32.tar",
            161_474_560,
            "sha256:862e559462b24cf736212a19f6b0d47b55c2dc8ebdaa95ccecfe71260124c8f7",
        ),
    ),
    page=(
        "http://image-net.org/small/download.php (no longer offered there: a copy, or a folder of "
        "TFRecord files, of someone who has it will do)"
    ),
    read=read_old,
)

RECIPE_NEW = Recipe(
    source=ImageNet32New(),
    num_train=1_281_167,
    num_test=50_000,
    # The npz form comes first for its published checksums; it holds what the pickles hold.
    files=(
        PublishedFile(
            "Imagenet32_train_npz.zip",
            3_580_435_279,
            "sha256:94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc",
        ),
        PublishedFile(
            "Imagenet32_val_npz.zip",
            139_697_668,
            "sha256:013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a",
        ),
    ),
    other_files=(PublishedFile("Imagenet32_train.zip"), PublishedFile("Imagenet32_val.zip")),
    page="https://image-net.org/download-images (after logging in)",
    read=read_new,
)

DATA_SETS = (RECIPE_OLD, RECIPE_NEW)
