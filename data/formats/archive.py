"""Archives read in memory, member by member; what could harm an extraction is refused.

Nothing is ever extracted to a path of the archive's choosing. An archive that has a member with
an absolute path or a `..`, a link, a device or a pipe, or that unpacks to more than a bound, is
none of the publishers' and is refused as a whole.

Every reader takes time in proportion to what it unpacks, and memory for one member at a time: the
sizes in an archive's headers are claims of its author's, and what is really unpacked is counted.
"""

import contextlib
import dataclasses
import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from data.errors import damaged, reading
from diffusion_ode.foreign import open_regular, read_up_to
from diffusion_ode.foreign_arrays import ZIP_PACKINGS

_TAR, _ZIP, _GZIP = "a whole tar archive", "a whole zip archive", "a whole gzip file"
_UNREADABLE = "cannot be unpacked"
_GZIP_MAGIC = b"\x1f\x8b"
# A tar's header that goes on after its block: names of thousands of letters are in none.
_MAX_TAR_HEADER = 1 << 16
_MAX_TAR_FACTS = 100
_ZIP_ENCRYPTED = 1  # Bit 0 of a member's general purpose flags.
# Of the list of a zip's members, which is read whole: room for tens of thousands.
_MAX_ZIP_LIST = 1 << 22


@dataclasses.dataclass(frozen=True)
class Member:
    """A regular file in an archive: its path in it, its unpacked size and its content."""

    name: str
    size: int
    read: Callable[[], bytes]

    @property
    def base_name(self) -> str:
        return PurePosixPath(self.name).name


class _Bounded(io.RawIOBase):
    """A file of which no more than a number of bytes can be read."""

    def __init__(self, file: BinaryIO, limit: int):
        super().__init__()
        self._file = file
        self._limit = limit

    def check(self, size: int) -> None:
        """Refuses to read so much."""
        if size > self._limit - self._file.tell():
            raise _TooLarge

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._limit:
            raise _TooLarge
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        # One byte more than allowed tells a file that is too large from one that ends.
        left = max(0, self._limit - self._file.tell())
        content = read_up_to(self._file, left + 1 if size < 0 else min(size, left + 1))
        if len(content) > left:
            raise _TooLarge
        return content


class _TooLarge(Exception):
    """More is unpacked than the bound allows."""


class _Entry(tarfile.TarInfo):
    """A header of a tar; before tarfile reads what belongs to it, a subclass may look at it."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.HeaderError(f"{self.name!r} is sparse")
        most = None if self.type in tarfile.REGULAR_TYPES else _MAX_TAR_HEADER
        if self.size < 0 or (most and self.size > most):
            archive.fileobj.check(self.size)  # type: ignore[union-attr]
            raise tarfile.HeaderError(f"a header of {self.size} bytes")
        if len(archive.pax_headers) > _MAX_TAR_FACTS:  # which are copied for each member
            raise tarfile.HeaderError("too many facts about all members")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.HeaderError(f"{self.name!r} is sparse")


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int, expected: str) -> Iterator[_Bounded]:
    """A file that may be gzipped, as what it holds, up to a bound."""
    too_large = damaged(path, f"unpacks to more than {max_bytes} bytes", "the published size")
    with reading(path, expected, _UNREADABLE), open_regular(path) as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        file: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        try:
            yield _Bounded(file, max_bytes)
        except _TooLarge as error:
            raise too_large from error


def tar_members(path: Path, *, max_bytes: int, max_member: int | None = None) -> Iterator[Member]:
    """The files of a .tar or .tar.gz in its order; each is to be read before the next is asked for.

    Args:
        path: of the archive.
        max_bytes: that it may hold unpacked.
        max_member: that one file in it may have; None: as many.

    Raises DamagedData where the archive is damaged, hostile or larger.
    """
    total = end = 0
    with (
        _opened(path, max_bytes, _TAR) as file,
        tarfile.open(fileobj=file, mode="r:", tarinfo=_Entry) as archive,  # type: ignore[arg-type]
    ):
        for entry in archive:
            # Kept, a million entries would take a gigabyte.
            archive.members = []  # type: ignore[attr-defined]
            if entry.size < 0 or archive.offset <= end:  # type: ignore[attr-defined]
                raise damaged(path, "has a member that ends before it begins", _TAR)
            end = archive.offset  # type: ignore[attr-defined]
            _check_name(path, entry.name)
            if entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise damaged(path, f"has {entry.name!r}, no regular file", "files only")
            total += tarfile.BLOCKSIZE + entry.size
            if total > max_bytes:
                raise _TooLarge
            if max_member is not None and entry.size > max_member:
                found = f"has {entry.name!r} of {entry.size} bytes"
                raise damaged(path, found, f"at most {max_member}")
            yield Member(entry.name, entry.size, lambda e=entry: _read_tar(path, archive, e))
        # tarfile takes an archive cut off between two members for a whole one.
        file.seek(archive.offset)  # type: ignore[attr-defined]
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise damaged(path, "ends without a mark of its end", _TAR)


def _read_tar(path: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    with reading(path, _TAR, f"cannot be unpacked at {entry.name!r}"):
        file = archive.extractfile(entry)
        content = b"" if file is None else file.read()
    if len(content) != entry.size:
        found = f"ends within {entry.name!r}, after {len(content)} of its bytes"
        raise damaged(path, found, f"{entry.size} bytes")
    return content


def zip_members(path: Path, *, max_bytes: int) -> Iterator[Member]:
    """The files of a .zip in its order, which may be read at any time while it is not moved.

    Raises DamagedData where the archive is damaged, hostile or unpacks to over `max_bytes`.
    """
    with reading(path, _ZIP, _UNREADABLE):
        file = open_regular(path)
    archive = open_zip(file, str(path), max_bytes=max_bytes)  # closed with the last member
    for entry in archive.infolist():
        if not entry.is_dir():
            read = lambda e=entry: _read_zip(archive, str(path), e)  # noqa: E731
            yield Member(entry.filename, entry.file_size, read)


def open_zip(
    file: BinaryIO, label: str, *, max_bytes: int, expected: str = _ZIP
) -> zipfile.ZipFile:
    """A zip archive whose list of members has been checked; see `zip_members`."""
    with reading(label, expected, _UNREADABLE):
        # zipfile has no limit of its own.
        end: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end and end[zipfile._ECD_SIZE] > _MAX_ZIP_LIST:  # type: ignore[attr-defined]
            raise damaged(label, "has a list of members that is too long", "a few files")
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise damaged(label, f"unpacks to more than {max_bytes} bytes", "the published size")
    for entry in entries:
        _check_name(label, entry.filename)
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise damaged(label, f"has {entry.filename!r}, no regular file", "files only")
        if entry.flag_bits & _ZIP_ENCRYPTED:
            raise damaged(label, f"has {entry.filename!r} encrypted", "files open to read")
        if entry.compress_type not in ZIP_PACKINGS:
            found = f"has {entry.filename!r} packed by method {entry.compress_type}"
            raise damaged(label, found, "files deflated or stored")
    return archive


def _read_zip(archive: zipfile.ZipFile, label: str, entry: zipfile.ZipInfo) -> bytes:
    with zip_entry(archive, label, entry) as file:
        content = read_up_to(file, entry.file_size + 1)  # at the end zipfile compares the CRC
    if len(content) != entry.file_size:
        found = f"ends within {entry.filename!r}"
        raise damaged(label, found, f"{entry.file_size} bytes")
    return content


@contextlib.contextmanager
def zip_entry(
    archive: zipfile.ZipFile, label: str, entry: zipfile.ZipInfo, expected: str = _ZIP
) -> Iterator[Any]:
    """A member opened; what reading it raises becomes DamagedData."""
    with (
        reading(label, expected, f"has a damaged {entry.filename!r}"),
        archive.open(entry) as file,
    ):
        yield file


def folder_members(path: Path) -> Iterator[Member]:
    """The files directly in a folder, by name."""
    for file in sorted(path.iterdir()):
        if file.is_file():
            yield Member(file.name, file.stat().st_size, file.read_bytes)


def read_gzip(path: Path, *, max_bytes: int) -> bytes:
    """The content of a file that may be gzipped, up to a bound."""
    with _opened(path, max_bytes, _GZIP) as file:
        return file.read()


def _check_name(archive: object, name: str) -> None:
    """Refuse no name, and names that lead out of a folder by the rules of POSIX or of Windows."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    leads_out = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if not name or leads_out or ".." in posix.parts or "\0" in name:
        raise damaged(archive, f"has a member called {name!r}", "paths inside the archive only")
