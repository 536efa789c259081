"""Archives read in memory, member by member; what could harm an extraction is refused.

Nothing is ever extracted to a path of the archive's choosing. An archive that has a member with
an absolute path or a `..`, a link, a device or a pipe, or that unpacks to more than a bound, is
none of the publishers' and is refused as a whole.
"""

import dataclasses
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from data.errors import DamagedData, damaged

_TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError, ValueError)
_ZIP_ENCRYPTED = 1  # Bit 0 of a member's general purpose flags.
_GZIP_MAGIC = b"\x1f\x8b"


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
    """A file of which no more than a number of unpacked bytes can be read.

    The sizes in an archive's headers are claims of its author's: what is really unpacked is
    counted here, before it is.
    """

    def __init__(self, file: gzip.GzipFile, limit: int):
        super().__init__()
        self._file = file
        self._limit = limit

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
        left = self._limit - self._file.tell()
        if size < 0 or size > left:
            # One byte more than allowed tells an archive that is too large from one that ends.
            content = self._file.read(max(0, left) + 1)
            if len(content) > left:
                raise _TooLarge
            return content
        return self._file.read(size)


class _TooLarge(Exception):
    """More is unpacked than the bound allows."""


def tar_members(path: Path, *, max_bytes: int) -> Iterator[Member]:
    """The files of a .tar or .tar.gz in its order; each is to be read before the next is asked for.

    Raises DamagedData where the archive is damaged, hostile or unpacks to over `max_bytes`.
    """
    too_large = damaged(path, f"unpacks to more than {max_bytes} bytes", "the published size")
    try:
        with path.open("rb") as raw:
            compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            file = _Bounded(gzip.GzipFile(fileobj=raw), max_bytes) if compressed else raw
            total = 0
            with tarfile.open(fileobj=file, mode="r:") as archive:  # type: ignore[arg-type]
                for entry in archive:
                    # Kept, a million entries would take a gigabyte.
                    archive.members = []  # type: ignore[attr-defined]
                    _check_name(path, entry.name)
                    if entry.isdir():
                        continue
                    if not entry.isreg() or entry.issparse():
                        raise damaged(path, f"has {entry.name!r}, no regular file", "files only")
                    total += tarfile.BLOCKSIZE + entry.size
                    if total > max_bytes:
                        raise too_large
                    yield Member(
                        entry.name, entry.size, lambda e=entry: _read_tar(path, archive, e)
                    )
                # tarfile takes an archive cut off between two members for a whole one.
                file.seek(archive.offset)  # type: ignore[attr-defined]
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise damaged(path, "ends without a mark of its end", "a whole tar archive")
    except _TooLarge as error:
        raise too_large from error
    except DamagedData:
        raise
    except _TAR_ERRORS as error:
        raise damaged(path, f"cannot be unpacked ({error})", "a whole tar archive") from error


def _read_tar(path: Path, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    try:
        file = archive.extractfile(entry)
        content = b"" if file is None else file.read()
    except _TAR_ERRORS as error:
        found = f"cannot be unpacked at {entry.name!r} ({error})"
        raise damaged(path, found, "a whole tar archive") from error
    if len(content) != entry.size:
        found = f"ends within {entry.name!r}, after {len(content)} of its bytes"
        raise damaged(path, found, f"{entry.size} bytes")
    return content


def zip_members(path: Path, *, max_bytes: int) -> Iterator[Member]:
    """The files of a .zip in its order, which may be read at any time while it is not moved.

    Raises DamagedData where the archive is damaged, hostile or unpacks to over `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _ZIP_ERRORS as error:
        raise damaged(path, f"cannot be unpacked ({error})", "a whole zip archive") from error
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise damaged(path, f"unpacks to more than {max_bytes} bytes", "the published size")
    for entry in entries:
        _check_name(path, entry.filename)
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise damaged(path, f"has {entry.filename!r}, no regular file", "files only")
        if entry.flag_bits & _ZIP_ENCRYPTED:
            raise damaged(path, f"has {entry.filename!r} encrypted", "files open to read")
    for entry in entries:
        if not entry.is_dir():
            yield Member(entry.filename, entry.file_size, lambda e=entry: _read_zip(path, e))


def _read_zip(path: Path, entry: zipfile.ZipInfo) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            # zipfile never returns more than the size that was counted, and checks the CRC.
            content = file.read()
    except _ZIP_ERRORS as error:
        found = f"has a damaged {entry.filename!r} ({error})"
        raise damaged(path, found, "a whole zip archive") from error
    if len(content) != entry.file_size:
        found = f"ends within {entry.filename!r}"
        raise damaged(path, found, f"{entry.file_size} bytes")
    return content


def folder_members(path: Path) -> Iterator[Member]:
    """The files directly in a folder, by name."""
    for file in sorted(path.iterdir()):
        if file.is_file():
            yield Member(file.name, file.stat().st_size, file.read_bytes)


def read_gzip(path: Path, *, max_bytes: int) -> bytes:
    """The content of a file that may be gzipped, up to a bound."""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                content = raw.read(max_bytes + 1)
            else:
                with gzip.GzipFile(fileobj=raw) as file:
                    content = file.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"cannot be unpacked ({error})", "a whole gzip file") from error
    if len(content) > max_bytes:
        raise damaged(path, f"unpacks to more than {max_bytes} bytes", "the published size")
    return content


def _check_name(archive: Path, name: str) -> None:
    """Refuse names that lead out of a folder, by the rules of POSIX and of Windows alike."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    leads_out = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if leads_out or ".." in posix.parts or "\0" in name:
        raise damaged(archive, f"has a member called {name!r}", "paths inside the archive only")
