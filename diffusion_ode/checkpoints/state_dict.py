"""Flax's serialised state dicts, read without trusting them.

`flax.serialization` writes a state dict as MessagePack: maps from names to maps or leaves, an array
being an extension whose payload is [shape, dtype, bytes]. The general readers of that format make
room for whatever sizes a file claims. This one reads just what state dicts consist of, believes no
size that the file itself does not hold, and copies no array: each is a view of the mapped file.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from diffusion_ode.foreign import open_regular, refused

StateDict = Mapping[str, Any]
"""Names → state dicts, arrays (read-only), numbers, booleans or None."""

MAX_DEPTH = 32  # a network's parameters are about 4 deep, within a chain of optimisers
MAX_ENTRIES = 200_000  # the largest published network has some ten thousand, moments included
MAX_NAME_BYTES = 256
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 31

# Flax's codes of extensions; complex numbers (2) have no business in a checkpoint.
_ARRAY, _SCALAR = 1, 3

_DTYPES: Mapping[str, np.dtype] = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    **{
        name: np.dtype(name)
        for name in (
            *("float16", "float32", "float64", "bool"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    },
}

# First byte → how the number after it is packed (big-endian).
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    **dict(zip(range(0xCC, 0xD0), (">B", ">H", ">I", ">Q"), strict=True)),
    **dict(zip(range(0xD0, 0xD4), (">b", ">h", ">i", ">q"), strict=True)),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# First byte → how the length that follows is packed.
_MAPS = {0xDE: ">H", 0xDF: ">I"}
_LISTS = {0xDC: ">H", 0xDD: ">I"}
_TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_FIXED_EXTENSIONS = {0xD4 + power: 1 << power for power in range(5)}


def read_state_dict(path: Path) -> StateDict:
    """The state dict in a file that `flax.serialization` wrote.

    Raises:
      UserError: there is no such file, or it is not whole, or not a state dict of arrays.
    """
    with refused(
        lambda why: (
            f"Cannot read the checkpoint {path}: {why}; give the path of a ckpt-N.flax file."
        )
    ):
        file = open_regular(path)
    with refused(lambda why: _malformed(path, why)), file:
        if not path.stat().st_size:
            raise _Malformed("it is empty")
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        reader = _Reader(content)
        tree = reader.state_dict()
        if reader.position != len(content):
            raise _Malformed(f"it ends with {len(content) - reader.position} bytes too many")
        return tree


def _malformed(path: Path, why: str) -> str:
    return (
        f"{path} is not a checkpoint that Flax wrote: {why}; fetch it again, or give another file."
    )


class _Malformed(ValueError):
    """The content is not what it should be; says in which way."""


class _Reader:
    """A position in a buffer, and what can be read there; nothing is made before it is checked."""

    def __init__(self, content: memoryview):
        self.position = 0
        self._content = content
        self._entries = 0

    def state_dict(self, depth: int = 0) -> StateDict:
        count = self._length(self._byte(), _MAPS, fixed=0x80, size=16, kind="a map")
        if depth == MAX_DEPTH:
            raise _Malformed(f"it is nested more than {MAX_DEPTH} deep")
        self._entries += count
        if self._entries > MAX_ENTRIES:
            raise _Malformed(f"it has more than {MAX_ENTRIES} entries")
        tree: dict[str, Any] = {}
        for _ in range(count):
            name = self._text()
            if name in tree:
                raise _Malformed(f"it has {name!r} twice")
            tree[name] = self._value(depth)
        if "__msgpack_chunked_array__" in tree:
            raise _Malformed("an array of a gigabyte is in it, which no published network has")
        return tree

    def _value(self, depth: int) -> Any:
        first = self._content[self.position] if self.position < len(self._content) else None
        if first is not None and (first & 0xF0 == 0x80 or first in _MAPS):
            return self.state_dict(depth + 1)
        byte = self._byte()
        if byte in _FIXED_EXTENSIONS:
            return self._array(_FIXED_EXTENSIONS[byte])
        if byte in _EXTENSIONS:
            return self._array(self._number(_EXTENSIONS[byte]))
        if byte in _CONSTANTS:
            return _CONSTANTS[byte]
        return self._plain_number(byte)

    def _array(self, size: int) -> np.ndarray:
        code = self._number(">b")
        if code not in (_ARRAY, _SCALAR):
            raise _Malformed(f"it holds an extension of code {code}, which is no array")
        payload = _Reader(self._take(size))
        if payload._length(payload._byte(), _LISTS, fixed=0x90, size=16, kind="a list") != 3:
            raise _Malformed("an array in it is not of shape, dtype and bytes")
        rank = payload._length(payload._byte(), _LISTS, fixed=0x90, size=16, kind="a list")
        if rank > MAX_DIMENSIONS:
            raise _Malformed(f"an array in it has {rank} dimensions")
        shape = tuple(payload._dimension() for _ in range(rank))
        dtype = _DTYPES.get(name := payload._text())
        if dtype is None:
            raise _Malformed(f"an array in it has the dtype {name!r}, which is not a plain number")
        values = payload._take(payload._length(payload._byte(), _BYTES, kind="bytes"))
        if payload.position != size or math.prod(shape) * dtype.itemsize != len(values):
            raise _Malformed(f"an array in it of {name}{list(shape)} has {len(values)} bytes")
        return np.frombuffer(values, dtype).reshape(shape)

    def _dimension(self) -> int:
        number = self._plain_number(self._byte())
        if not isinstance(number, int) or not 0 <= number <= MAX_DIMENSION:
            raise _Malformed(f"an array in it has the dimension {number}")
        return number

    def _plain_number(self, byte: int) -> int | float:
        if byte < 0x80:
            return byte
        if byte >= 0xE0:
            return byte - 0x100
        if byte in _NUMBERS:
            return self._number(_NUMBERS[byte])
        raise self._unexpected(byte, "a number")

    def _text(self) -> str:
        length = self._length(self._byte(), _TEXTS, fixed=0xA0, size=32, kind="a name")
        if length > MAX_NAME_BYTES:
            raise _Malformed(f"a name in it has {length} bytes")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            raise _Malformed("a name in it is not UTF-8") from None

    def _length(
        self, byte: int, forms: Mapping[int, str], *, kind: str, fixed: int = 0, size: int = 0
    ) -> int:
        """The length that follows, or that short forms hold in the byte itself."""
        if fixed <= byte < fixed + size:
            return byte - fixed
        if byte not in forms:
            raise self._unexpected(byte, kind)
        return self._number(forms[byte])

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> memoryview:
        end = self.position + size
        if end > len(self._content):
            raise _Malformed("it ends too early")
        taken = self._content[self.position : end]
        self.position = end
        return taken

    def _unexpected(self, byte: int, kind: str) -> _Malformed:
        return _Malformed(f"it has the byte {byte:#04x} where {kind} should begin")
