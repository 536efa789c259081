"""ImageNet at 64×64 as first published, beside the old release at 32×32.

A pair of tar archives of PNG files (van den Oord et al., "Pixel recurrent neural networks", 2016).
"""

import dataclasses
from pathlib import Path

from data.recipe import PublishedFile, Reading, Recipe
from data.source import ImageData
from data.sources.imagenet32 import RECIPE_OLD, read_pictures
from data.store import open_published

NAMES = ("train_64x64.tar", "valid_64x64.tar")
MAX_UNPACKED_BYTES = 24 << 30  # four times as many pixels as at 32×32


@dataclasses.dataclass(frozen=True)
class ImageNet64:
    """ImageNet at 64×64 as first published: 1 281 149 images to train, 49 999 to test."""

    name = "imagenet64"
    shape = (64, 64, 3)
    levels = 256

    def load(self, data_dir: Path | None = None) -> ImageData:
        return open_published(self, RECIPE, data_dir)


def read(path: Path) -> Reading:
    """The pictures of a folder's two archives, in the archives' order; or TFRecords."""
    return read_pictures(path, NAMES, ImageNet64.shape, MAX_UNPACKED_BYTES)


RECIPE = Recipe(
    source=ImageNet64(),
    num_train=RECIPE_OLD.num_train,
    num_test=RECIPE_OLD.num_test,
    files=tuple(map(PublishedFile, NAMES)),
    page=RECIPE_OLD.page,
    read=read,
)

DATA_SETS = (RECIPE,)
