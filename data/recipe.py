"""How a published data set becomes a prepared one: its files, how they are read, what to expect."""

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from data.errors import MissingData, damaged
from data.location import resolve_data_dir
from data.source import Source

# A piece of a split that can be decoded on its own, to uint8 [m,h,w,c]. Conversion goes on at the
# first block not yet written, so producing a block must be cheap and calling it does the work.
Block = Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A file as its publishers distribute it.

    Attributes:
        name: the official file name.
        num_bytes: its size; None where it is not published.
        checksum: `algorithm:hex`; None where none is published.
        url: where it can be fetched without registration; None if it cannot.
        content: `algorithm:hex` of what a gzipped file holds: packed anew, as distributions do, or
            unpacked, it is the same file still.
    """

    name: str
    num_bytes: int | None = None
    checksum: str | None = None
    url: str | None = None
    content: str | None = None

    def describe(self) -> str:
        """Its name, size and checksum, e.g. `cifar-10-binary.tar.gz (170 MB, md5 c32a…)`."""
        if self.num_bytes is None or self.checksum is None:
            return f"{self.name} (size and checksum are not published)"
        checksum = self.checksum.replace(":", " ")
        return f"{self.name} ({_readable_size(self.num_bytes)}, {checksum})"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader found at a path.

    Attributes:
        files: the files that are read; their checksums go into the manifest.
        train: blocks of training images, in order.
        test: blocks of test images, in order.
    """

    files: tuple[Path, ...]
    train: Iterable[Block]
    test: Iterable[Block]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A published data set.

    Attributes:
        source: of its images, whose name is what `python -m data.prepare` calls it.
        num_train: training images published; None if any number will do.
        num_test: test images published; None if any number will do.
        files: what to get, all of it.
        page: the web page that offers the files.
        read: opens a path; raises DamagedData for what it cannot read.
        other_files: official names of other forms of the same data, each checked if it is given.
        places: folders where a package may have installed the files already.
    """

    source: Source
    num_train: int | None
    num_test: int | None
    files: tuple[PublishedFile, ...]
    page: str
    read: Callable[[Path], Reading]
    other_files: tuple[PublishedFile, ...] = ()
    places: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return self.source.name

    def published(self, name: str) -> PublishedFile | None:
        """The published file of that name, gzipped or unpacked, if there is one."""
        for file in self.files + self.other_files:
            if name == file.name or (file.content and name == file.name.removesuffix(".gz")):
                return file
        return None

    @property
    def remedy(self) -> str:
        """What to do about a file of it that is damaged."""
        return f"get it anew (`python -m data.prepare {self.name}` without --from says where)"

    def missing(self, data_dir: Path, why: str = "") -> MissingData:
        """One sentence: what is not there (and why), what to get, where, and what to type then."""
        return MissingData(
            f"The data set {self.name} is not prepared in {data_dir}{why}: "
            f"{self._how_to_get(data_dir)}."
        )

    def not_there(self, path: Path, data_dir: Path) -> MissingData:
        """One sentence: a path from which it was to be read is not there, and what would be."""
        return MissingData(
            f"There is no {path}: give the folder or file that holds {self.name}, or "
            f"{self._how_to_get(data_dir)}."
        )

    def _how_to_get(self, data_dir: Path) -> str:
        where = (
            "" if data_dir == resolve_data_dir() else f" --data_dir {shlex.quote(str(data_dir))}"
        )
        command = f"python -m data.prepare {self.name}"
        files = " and ".join(file.describe() for file in self.files)
        if self.other_files:
            files += f" (or else {' and '.join(file.name for file in self.other_files)})"
        given = self.files[0].name if len(self.files) == 1 else "FOLDER"
        by_hand = f"get {files} from {self.page}, then type `{command} --from {given}{where}`"
        if all(file.url for file in self.files):
            return f"type `{command}{where}`, which downloads it, or {by_hand}"
        return by_hand


def folder_of(path: Path, names: Sequence[str]) -> Path:
    """The folder itself, or, of a data set in several files, that of the one which is named.

    Raises DamagedData for a file that has none of the names: its folder is not to be searched.
    """
    if path.is_dir():
        return path
    if path.name not in names:
        remedy = "give one of them, or their folder"
        raise damaged(path, "is another file", " or ".join(names), remedy)
    return path.parent


def _readable_size(num_bytes: int) -> str:
    return f"{num_bytes} bytes" if num_bytes < 10**6 else f"{num_bytes / 10**6:.0f} MB"
