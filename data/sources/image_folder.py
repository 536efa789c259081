"""A user's own pictures in a folder."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np

from data.checksum import file_checksum
from data.conversion import converted
from data.formats.fit import SUFFIXES, Fit, read_header, survey
from data.formats.folder import SPLIT_FOLDERS, Splits, any_file_below, files_below, split_files
from data.location import resolve_data_dir
from data.recipe import Block
from data.source import ImageData
from data.store import is_prepared
from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import read_regular
from diffusion_ode.home import url_of
from diffusion_ode.ranges import Count, Seed, Within
from diffusion_ode.remote import fetched
from diffusion_ode.workdir.files import replace_atomically

PICTURES_PER_BLOCK, BYTES_PER_BLOCK = 1024, 1 << 28

_DIGITS = 16  # of the checksum that names what a folder holds


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Pictures in a folder and below it, converted once, and again when they or their names change.

    With folders `train` and `test`, and perhaps `validation` (or `valid`, `val`), in any case of
    letters, these are the splits; else a fraction of all becomes test images. Names of other
    folders, such as labels, mean nothing. Whatever would alter a picture is refused until a field
    asks for it, but that it is turned upright as its EXIF says.

    Attributes:
        path: the folder, of this machine or an address such as gs://bucket/pictures.
        resize, crop, channels, eight_bits, first_frame: see `data.formats.fit.Fit`.
        test_fraction: of the pictures, where no folder says which are test images.
        seed: draws these, and the order of the others; None takes them at even distances by name.
    """

    path: str
    resize: Count | None = None
    crop: Count | None = None
    channels: Count | None = None
    eight_bits: bool = False
    first_frame: bool = False
    test_fraction: Annotated[float, Within(0, 1, "()")] = 0.1
    seed: Seed | None = None
    name = "image_folder"
    levels = 256

    def __post_init__(self):
        check_fields(self)
        if not 1e-9 <= self.test_fraction <= 0.5:
            raise UserError(
                f"test_fraction = {self.test_fraction} leaves too few images to train or to test"
                " on: give at least 1e-9 and at most 0.5."
            )
        _ = self.fit  # which refuses what it cannot do

    @property
    def fit(self) -> Fit:
        """What is done to each picture."""
        return Fit(self.resize, self.crop, self.channels, self.eight_bits, self.first_frame)

    @property
    def shape(self) -> tuple[int, int, int]:
        if self.crop and self.channels:
            return self.crop, self.crop, self.channels
        first = any_file_below(self._root, SUFFIXES) or self._files()[0].all[0]
        return self.fit.shape(read_header(first))

    def load(self, data_dir: Path | None = None) -> ImageData:
        splits, left_out = self._files()
        folder = resolve_data_dir(data_dir)
        version = self._version(splits, folder)
        notes = ()
        if not is_prepared(folder, f"{self.name}-{version}"):
            changed = self._counted("converted", survey(self.fit, splits.all))
            notes = (splits.in_words, *self._labels(splits.all), *changed)
        images = converted(
            self,
            version,
            {
                "train": self._blocks([*splits.train, *splits.validation]),
                "test": self._blocks(splits.test),
            },
            folder,
            origin=url_of(self.path) or str(self._root),
            notes=notes,
        )
        # Files that are no pictures come and go, and no picture is converted anew for them.
        notes = (*images.manifest.notes, *self._counted("left out", left_out))
        images = dataclasses.replace(
            images, manifest=dataclasses.replace(images.manifest, notes=notes)
        )
        if not splits.validation:
            return images
        train, validation = np.split(images.train, [len(splits.train)])
        return dataclasses.replace(images, train=train, validation=validation)

    @functools.cached_property
    def _root(self) -> Path:
        return fetched(self.path)

    def _files(self) -> tuple[Splits, dict[str, list[Path]]]:
        """The pictures by split, and by what they are the files that are left out."""
        if self._root.is_file():
            raise UserError(
                f"{self._root} is a file: data.source=array_file(path=…) reads one of arrays."
            )
        if not self._root.is_dir():
            raise UserError(f"There is no folder {self._root}: give the path of one.")
        files = files_below(self._root, SUFFIXES)
        splits = split_files(self._root, files.chosen, self.test_fraction, self.seed)
        for name in ("test_fraction", "seed") if splits.by_folders else ():
            if (given := getattr(self, name)) != getattr(ImageFolder, name):
                raise UserError(
                    f"{self._root} has folders that say which pictures are test images, and"
                    f" {name} = {given} would draw others: leave data.source.{name} out."
                )
        if not splits.train or not splits.test:
            pictures = f"test picture{'s' * (len(splits.test) != 1)}"
            raise UserError(
                f"{self._root} has {len(splits.train)} training and {len(splits.test)} {pictures},"
                f" and at least one of each is needed: put {', '.join(SUFFIXES)} files"
                " there."
            )
        return splits, files.left_out | {"outside the splits' folders": splits.left_out}

    def _version(self, splits: Splits, data_dir: Path) -> str:
        """Text that changes with all pictures' content, and with what is told of them.

        Content is read once: thereafter inodes and times of change, which no program can set, stand
        for it.
        """
        names = [[file.relative_to(self._root).as_posix() for file in part] for part in splits[:3]]
        facts = (self.fit, names, splits.in_words)
        stats = [file.stat() for file in splits.all]
        known = _digest(facts, [(s.st_dev, s.st_ino, s.st_size, s.st_ctime_ns) for s in stats])
        note = data_dir / ".listings" / known
        with contextlib.suppress(OSError):
            version = str(read_regular(note, 1 << 10), "utf-8", "replace")
            if re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", version):  # a power failure leaves nothing
                return version
        with ThreadPoolExecutor() as threads:
            version = _digest(facts, list(threads.map(file_checksum, splits.all)))
        # Data that others have prepared may be read-only.
        with contextlib.suppress(OSError), replace_atomically(note) as file:
            file.write(version)
        return version

    def _labels(self, files: list[Path]) -> list[str]:
        folders = {file.parent for file in files} - {self._root}
        labels = [each.name for each in folders if each.name.lower() not in SPLIT_FOLDERS]
        count = f"{len(labels)} folders" if len(labels) > 1 else "a folder"
        return [f"left out: names of {count}, such as {min(labels)}, as labels"] if labels else []

    def _counted(self, what: str, found: Mapping[str, list[Path]]) -> Iterator[str]:
        for kind, files in found.items():
            if files:
                yield f"{what}: {len(files)} {kind}, such as {files[0].relative_to(self._root)}"

    def _blocks(self, files: list[Path]) -> Iterator[Block]:
        shape = self.shape

        def read(some: list[Path]) -> np.ndarray:
            with ThreadPoolExecutor() as threads:
                return np.stack(list(threads.map(lambda file: self.fit.image(file, shape), some)))

        count = min(PICTURES_PER_BLOCK, max(1, BYTES_PER_BLOCK // math.prod(shape)))
        for start in range(0, len(files), count):
            yield lambda some=files[start : start + count]: read(some)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:_DIGITS]
