"""NumPy's .npy and .npz without pickles, and with sizes checked before memory is taken.

Headers are read by a grammar of their own: NumPy's reader takes what they claim to need, and what
is no header, such as thousands of signs before a number, breaks Python's parser.
"""

import io
import math
import re
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from data.errors import reading
from data.formats.archive import open_zip, read_up_to, zip_entry
from diffusion_ode.foreign import open_regular

_NPZ = "a whole .npz file without pickles"
_NPY = "a whole .npy file without pickles"
_MAGIC = b"\x93NUMPY"
# By version: how the header's length is packed.
_LENGTHS = {(1, 0): struct.Struct("<H"), (2, 0): struct.Struct("<I"), (3, 0): struct.Struct("<I")}
_MAX_HEADER = 10_000  # bytes, as NumPy has it
_HEADER = re.compile(
    r"\{'descr': (?P<descr>.*), 'fortran_order': (?P<fortran>True|False),"
    r" 'shape': \((?P<shape>(?:\d{1,18}, ?)*(?:\d{1,18},?)?)\),? ?\}\s*",
    re.DOTALL,
)
_PLAIN = re.compile(r"'([<>|=]?[biufcSUVmM?][0-9]{0,9})'")  # the descr of an array of numbers
_MAX_AXES = 32
_MAX_LISTED = 1 << 50  # bytes of an .npz that are not unpacked, as only its headers are read


class ArrayKind(NamedTuple):
    """What a header says of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def __str__(self):
        return f"{self.dtype} {list(self.shape)}"


class _Header(NamedTuple):
    """A header: what follows, and whether its first axis is the one that runs fastest."""

    kind: ArrayKind
    fortran: bool

    @property
    def size(self) -> int:
        """Of the array in bytes."""
        return math.prod(self.kind.shape) * self.kind.dtype.itemsize


def npz_kinds(path: Path) -> dict[str, ArrayKind]:
    """The arrays of an .npz by name, by their headers; DamagedData if it is damaged."""
    kinds = {}
    with reading(path, _NPZ), open_regular(path) as file:
        archive = open_zip(file, str(path), max_bytes=_MAX_LISTED, expected=_NPZ)
        for entry in archive.infolist():
            with zip_entry(archive, str(path), entry, _NPZ) as member:
                kinds[entry.filename.removesuffix(".npy")] = _header(member).kind
    return kinds


def read_npz(
    file: Path | bytes, label: str, *, max_bytes: int, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """The uint8 arrays of an .npz by name, or some of them; arrays of other types are left out.

    Raises DamagedData for what is damaged, pickled, or larger than `max_bytes`.
    """
    arrays = {}
    with reading(label, _NPZ):
        content = open_regular(file) if isinstance(file, Path) else io.BytesIO(file)
        with (
            content,
            open_zip(content, label, max_bytes=max_bytes, expected=_NPZ) as archive,
        ):
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name == entry.filename or (names is not None and name not in names):
                    continue
                with zip_entry(archive, label, entry, _NPZ) as member:
                    array = _read_npy(member, entry)
                if array is not None:
                    arrays[name] = array
    return arrays


def open_npy(path: Path) -> np.ndarray:
    """The array of an .npy file as a read-only memory map; DamagedData if it is none."""
    with reading(path, _NPY), open_regular(path) as file:
        header = _header(file)
        start, kind = file.tell(), header.kind
        if kind.dtype.hasobject or kind.dtype.itemsize == 0:
            raise ValueError("an array of Python objects")
        there = path.stat().st_size - start
        if header.size > there:
            raise ValueError(f"shape {kind.shape} in {there} bytes")
        order = "F" if header.fortran else "C"
        return np.memmap(file, kind.dtype, "r", start, kind.shape, order)


def _header(file: BinaryIO) -> _Header:
    """The header of the .npy that begins here; ValueError if none does."""
    begin = read_up_to(file, len(_MAGIC) + 2)
    packed = _LENGTHS.get((begin[-2], begin[-1])) if begin.startswith(_MAGIC) else None
    if packed is None or len(begin) < len(_MAGIC) + 2:
        raise ValueError("it is no .npy file of a known version")
    (length,) = packed.unpack(read_up_to(file, packed.size))
    if length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    text = str(read_up_to(file, length), "latin1")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise ValueError(f"the header {text.strip()!r}")
    shape = tuple(map(int, re.findall(r"\d+", match["shape"])))
    if len(shape) > _MAX_AXES:
        raise ValueError(f"{len(shape)} axes")
    # Of several fields, or of Python's objects: nothing that is read here.
    plain = _PLAIN.fullmatch(match["descr"])
    dtype = np.dtype(plain[1]) if plain else np.dtype(object)
    return _Header(ArrayKind(dtype, shape), match["fortran"] == "True")


def _read_npy(file: BinaryIO, entry: zipfile.ZipInfo) -> np.ndarray | None:
    header = _header(file)
    dtype, shape = header.kind
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if dtype != np.uint8:
        return None
    # The header's shape is a claim: believed only if the file has as many bytes.
    if header.size > entry.file_size:
        raise ValueError(f"shape {shape} in {entry.file_size} bytes")
    content = read_up_to(file, header.size + 1)
    if len(content) != header.size:
        raise ValueError(f"not as many bytes as its shape {shape} says")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if header.fortran else "C")
