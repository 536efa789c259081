"""CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009)."""

import dataclasses
from pathlib import Path

from data.location import resolve_data_dir
from data.recipe import PublishedFile, Reading, Recipe
from data.source import ImageData
from data.store import is_prepared, open_prepared


@dataclasses.dataclass(frozen=True)
class Cifar10:
    """60 000 colour photographs of 32×32, 256 levels: 50 000 to train, 10 000 to test."""

    name = "cifar10"
    shape = (32, 32, 3)
    levels = 256

    def load(self, data_dir: Path | None = None) -> ImageData:
        folder = resolve_data_dir(data_dir)
        if not is_prepared(folder, self.name):
            raise RECIPE.missing(folder)
        return open_prepared(self, folder)


def read(path: Path) -> Reading:
    """The images at a path: an archive of either kind, its unpacked folder, or TFRecords."""
    raise NotImplementedError


RECIPE = Recipe(
    name=Cifar10.name,
    shape=Cifar10.shape,
    levels=Cifar10.levels,
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
