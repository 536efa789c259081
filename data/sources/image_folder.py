"""A user's own pictures in a folder."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.conversion import converted
from data.formats import picture
from data.recipe import Block
from data.source import ImageData
from diffusion_ode.errors import UserError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
TEST_FOLDERS = ("test", "validation", "valid", "val")
# Without a folder of test images, every tenth picture by name becomes one: the names' order often
# goes by class or time, so that the last tenth would be other pictures than the rest.
TEST_EVERY = 10
PICTURES_PER_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Pictures of one size in a folder and below it, converted once and again when they change.

    With folders `train` and `test` (or `validation`, `valid`, `val`) in it, these are the splits;
    else every tenth picture by name is a test image.

    Attributes:
        path: the folder.
    """

    path: str
    name = "image_folder"
    levels = 256

    @property
    def shape(self) -> tuple[int, int, int]:
        first = self._splits()[0][0]
        height, width, channels = picture.decode(
            first, str(first), formats=tuple(set(FORMATS.values()))
        ).shape
        return height, width, channels

    def load(self, data_dir: Path | None = None) -> ImageData:
        train, test = self._splits()
        shape = self.shape
        return converted(
            self,
            # Names, sizes and times of all pictures stand for the pictures themselves.
            _listing(Path(self.path).expanduser(), train, test),
            {"train": _blocks(train, shape), "test": _blocks(test, shape)},
            data_dir,
            origin=str(self.path),
        )

    def _splits(self) -> tuple[list[Path], list[Path]]:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise UserError(f"There is no folder {root}: set data.source.path to one.")
        test_folder = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
        if (root / "train").is_dir() and test_folder is not None:
            train, test = _pictures(root / "train"), _pictures(test_folder)
        else:
            pictures = _pictures(root)
            test = pictures[TEST_EVERY - 1 :: TEST_EVERY] or pictures[-1:]
            train = [file for file in pictures if file not in set(test)]
        if not train or not test:
            raise UserError(
                f"{root} has {len(train)} training and {len(test)} test pictures, and at least "
                f"one of each is needed: put {', '.join(FORMATS)} files there."
            )
        return train, test


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in FORMATS and file.is_file() and not file.name.startswith(".")
    )


def _listing(root: Path, train: list[Path], test: list[Path]) -> str:
    digest = hashlib.sha256()
    for split, files in (("train", train), ("test", test)):
        for file in files:
            facts = file.stat()
            entry = (split, str(file.relative_to(root)), facts.st_size, facts.st_mtime_ns)
            digest.update(repr(entry).encode())
    return digest.hexdigest()[:16]


def _blocks(files: list[Path], shape: tuple[int, int, int]) -> Iterator[Block]:
    for start in range(0, len(files), PICTURES_PER_BLOCK):
        yield lambda chosen=files[start : start + PICTURES_PER_BLOCK]: np.stack(
            [
                picture.decode(
                    file, str(file), formats=(FORMATS[file.suffix.lower()],), shape=shape
                )
                for file in chosen
            ]
        )
