"""Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv:1708.07747)."""

import dataclasses
import functools
from pathlib import Path

from data.errors import damaged
from data.formats.idx import read_idx_images
from data.recipe import PublishedFile, Reading, Recipe, folder_of
from data.source import ImageData
from data.sources.tfrecords import has_tfrecords, read_tfrecords
from data.store import open_published

TRAIN_FILE = "train-images-idx3-ubyte"
TEST_FILE = "t10k-images-idx3-ubyte"
# 60 000 images of 784 bytes are 47 MB.
MAX_UNPACKED_BYTES = 1 << 26
# Where Debian's package dataset-fashion-mnist puts the files.
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


@dataclasses.dataclass(frozen=True)
class FashionMnist:
    """Grey pictures of clothes of 28×28, 256 levels: 60 000 to train, 10 000 to test."""

    name = "fashion_mnist"
    shape = (28, 28, 1)
    levels = 256
    held_out = 5000  # at the end of the training images, to choose by

    def load(self, data_dir: Path | None = None) -> ImageData:
        return open_published(self, RECIPE, data_dir)


def read(path: Path) -> Reading:
    """The idx files of images in a folder, gzipped or not (the labels are not needed)."""
    names = [name + end for name in (TRAIN_FILE, TEST_FILE) for end in ("", ".gz")]
    folder = folder_of(path, names)
    if not any((folder / name).is_file() for name in names) and has_tfrecords(path):
        return read_tfrecords(folder, FashionMnist.shape)
    train, test = _find(folder, TRAIN_FILE), _find(folder, TEST_FILE)
    load = functools.partial(read_idx_images, max_bytes=MAX_UNPACKED_BYTES)
    return Reading((train, test), [lambda: load(train)], [lambda: load(test)])


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise damaged(folder, f"has no {name}", f"{name} or {name}.gz")


RECIPE = Recipe(
    source=FashionMnist(),
    num_train=60_000,
    num_test=10_000,
    files=(
        PublishedFile(
            f"{TRAIN_FILE}.gz",
            26_421_880,
            "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            f"{_SITE}/{TRAIN_FILE}.gz",
            content="sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        PublishedFile(
            f"{TEST_FILE}.gz",
            4_422_102,
            "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            f"{_SITE}/{TEST_FILE}.gz",
            content="sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
    ),
    page="https://github.com/zalandoresearch/fashion-mnist",
    read=read,
    places=(DEBIAN_FOLDER,),
)

DATA_SETS = (RECIPE,)
