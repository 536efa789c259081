"""NumPy's .npy and .npz without pickles, and with sizes checked before memory is taken."""

import io
import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from data.errors import DamagedData, damaged

_ERRORS = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError)


class ArrayKind(NamedTuple):
    """What a header says of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def __str__(self):
        return f"{self.dtype} {list(self.shape)}"


def npz_kinds(path: Path) -> dict[str, ArrayKind]:
    """The arrays of an .npz by name, by their headers; DamagedData if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            kinds = {}
            for name in archive.namelist():
                with archive.open(name) as member:
                    shape, _, dtype = npy_header(member)  # type: ignore[arg-type]
                kinds[name.removesuffix(".npy")] = ArrayKind(dtype, shape)
            return kinds
    except _ERRORS as error:
        expected = "a whole .npz file without pickles"
        raise damaged(path, f"cannot be read ({error})", expected) from error


def read_npz(
    file: Path | bytes, label: str, *, max_bytes: int, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """The uint8 arrays of an .npz by name, or some of them; arrays of other types are left out.

    Raises DamagedData for what is damaged, pickled, or larger than `max_bytes`.
    """
    expected = "a whole .npz file without pickles"
    arrays = {}
    try:
        with zipfile.ZipFile(file if isinstance(file, Path) else io.BytesIO(file)) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            if names is not None:
                entries = [entry for entry in entries if entry.filename[: -len(".npy")] in names]
            if sum(entry.file_size for entry in entries) > max_bytes:
                raise damaged(label, f"unpacks to more than {max_bytes} bytes", "less")
            for entry in entries:
                with archive.open(entry) as member:
                    array = _read_npy(member, entry.file_size)  # type: ignore[arg-type]
                if array is not None:
                    arrays[entry.filename.removesuffix(".npy")] = array
    except DamagedData:
        raise
    except _ERRORS as error:
        raise damaged(label, f"cannot be read ({error})", expected) from error
    return arrays


def open_npy(path: Path) -> np.ndarray:
    """The array of an .npy file as a read-only memory map; DamagedData if it is none."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _ERRORS as error:
        expected = "a whole .npy file without pickles"
        raise damaged(path, f"cannot be read ({error})", expected) from error


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The header of the .npy begun here: (shape, Fortran order, dtype); ValueError if none does."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of .npy files is not read")


def _read_npy(file: BinaryIO, num_bytes: int) -> np.ndarray | None:
    shape, fortran, dtype = npy_header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if dtype != np.uint8:
        return None
    size = math.prod(shape)
    # The header's shape is a claim: believed only if the file has as many bytes.
    if size > num_bytes:
        raise ValueError(f"shape {shape} in {num_bytes} bytes")
    content = file.read(size)
    if len(content) != size or file.read(1):
        raise ValueError(f"not as many bytes as its shape {shape} says")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
