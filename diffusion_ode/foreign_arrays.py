"""NumPy's .npy and .npz that anybody may have made, with sizes checked before memory is taken.

Headers are read by a grammar of their own: NumPy's reader takes what they claim to need, and what
is no header, such as thousands of signs before a number, breaks Python's parser.
"""

import math
import os
import re
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from diffusion_ode.foreign import PIECE, open_regular, read_up_to, refused

MAX_BYTES = 1 << 28
"""Of arrays that are read, or `MAX_UNPACKING` times their file."""
MAX_UNPACKING = 64
ONLY = "features"
"""The name of an .npy's array, which has none."""
ZIP_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of a zip's members; zipfile bounds no other's output."""
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


class ArrayKind(NamedTuple):
    """What a header says of an array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def __str__(self):
        return f"{self.dtype} {list(self.shape)}"


class Header(NamedTuple):
    """A header: what follows, and whether its first axis is the one that runs fastest."""

    kind: ArrayKind
    fortran: bool

    @property
    def size(self) -> int:
        """Of the array in bytes."""
        return math.prod(self.kind.shape) * self.kind.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
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
    return Header(ArrayKind(dtype, shape), match["fortran"] == "True")


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays of these names that an .npz has; of an .npy its one array, as `ONLY`.

    Raises:
      UserError: it is neither, is damaged or pickled, or they are larger than the bound.
    """
    with (
        refused(lambda why: f"{path} is no whole .npy or .npz file of numbers: {why}."),
        open_regular(path) as file,
    ):
        size = os.fstat(file.fileno()).st_size
        most = max(MAX_BYTES, MAX_UNPACKING * size)
        magic = file.read(len(_MAGIC))
        file.seek(0)
        if magic == _MAGIC:
            return {ONLY: _read_array(file, most=min(most, size))}
        arrays: dict[str, np.ndarray] = {}
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name not in names or name == entry.filename or name in arrays:
                    continue
                if entry.compress_type not in ZIP_PACKINGS:
                    raise ValueError(f"{name!r} is packed by method {entry.compress_type}")
                with archive.open(entry) as member:
                    arrays[name] = _read_array(member, most)
                most -= arrays[name].nbytes
        return arrays


def _read_array(file: IO[bytes], most: int) -> np.ndarray:
    """The array of the .npy that ends where the file does, of so many bytes at most."""
    (dtype, shape), fortran = header = read_header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, or of several fields")
    if header.size > most:
        raise ValueError(f"{dtype} {list(shape)} is more than {most} bytes")
    content = np.empty(header.size, np.uint8)  # no memory is taken before it is written to
    for begin in range(0, header.size, PIECE):
        piece = read_up_to(file, min(PIECE, header.size - begin))
        if len(piece) < min(PIECE, header.size - begin):
            raise ValueError(f"it ends within an array {dtype} {list(shape)}")
        content[begin : begin + len(piece)] = np.frombuffer(piece, np.uint8)
    if file.read(1):  # where there is none, zipfile compares the checksum
        raise ValueError(f"more bytes than the array {dtype} {list(shape)} has")
    return content.view(dtype).reshape(shape, order="F" if fortran else "C")
