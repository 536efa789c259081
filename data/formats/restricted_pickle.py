"""Pickles of NumPy arrays and builtin containers, read without running anything of the file's.

A pickle is a program; it can call whatever it can name. Here it can name arrays, dtypes and sets,
and gets stand-ins for them: they collect what NumPy would be told, and arrays are made from that
by `np.frombuffer` once the pickle has been read. Any other name ends the reading.

Nor can a small pickle cost much: what is hashed are texts and numbers only (tuples that hold one
another many times over would be hashed without end), and what calls may take is bounded.
"""

import dataclasses
import io
import math
import pickle
import struct
from typing import Any, ClassVar

import numpy as np

from data.errors import damaged, reading

_EXPECTED = "a pickle of NumPy arrays and builtin containers"
# A hundred thousand labels and a few arrays; nesting beyond that is nobody's batch of images.
_MAX_DEPTH = 16
_ALLOWED_KINDS = "uifb"
# NumPy before version 2 allows no more axes.
_MAX_AXES = 32
# Each byte of a file pays for so many items or bytes that calls may handle; NumPy's need about one.
_WORK_PER_BYTE = 8
# Of what a file says of itself, as much as a message shows.
_MAX_SHOWN = 120
_HASHED = (str, bytes, int, float, bool, type(None))


class _Refused(Exception):
    """The pickle asked for something that is not allowed."""


@dataclasses.dataclass
class _Dtype:
    """What a pickle says of a dtype: its code (`u1`) and its byte order."""

    code: Any
    order: Any = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def build(self) -> np.dtype:
        code = _text(self.code)
        if len(code) > 3 or code[:1] not in _ALLOWED_KINDS:
            raise _Refused(f"an array of dtype {code[:_MAX_SHOWN]!r}")
        dtype = np.dtype(code)
        return dtype.newbyteorder(self.order) if self.order in ("<", ">") else dtype


class _Array:
    """What a pickle says of an array: shape, dtype, order and bytes."""

    def __init__(self, shape: Any = None, dtype: Any = None, fortran: Any = False, raw: Any = None):
        self.shape, self.dtype, self.fortran, self.raw = shape, dtype, fortran, raw

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def build(self, work: "_Work") -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or not isinstance(self.shape, tuple):
            raise _Refused("an array without dtype and shape")
        raw, dtype = self.raw, self.dtype.build()
        if isinstance(raw, str):
            work.take(len(raw))
            raw = raw.encode("latin1")
        if not isinstance(raw, bytes | bytearray):
            raise _Refused("an array without bytes")
        sizes = self.shape
        if len(sizes) > _MAX_AXES or any(type(n) is not int or n < 0 for n in sizes):
            raise _Refused("an array with an invalid shape")
        if any(n > len(raw) for n in sizes) or math.prod(sizes) * dtype.itemsize != len(raw):
            raise _Refused(f"an array of another shape than its {len(raw)} bytes have")
        order = "F" if self.fortran else "C"
        return np.frombuffer(raw, dtype).reshape(self.shape, order=order)


class _ArrayType:
    """Stands for `numpy.ndarray`, which pickles only name, never call."""


class _Work:
    """What the pickle's calls may still handle: one could be asked for a million times over."""

    def __init__(self, content: bytes):
        self.left = _WORK_PER_BYTE * len(content)

    def take(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise _Refused("calls that take far more than the file holds")


def _hashing(original: Any, hashed: slice) -> Any:
    """An opcode that hashes that part of the stack (since its mark, if it has one)."""

    def load(self: Any) -> None:
        if any(type(key) not in _HASHED for key in self.stack[hashed]):
            raise _Refused("a set or the keys of a dict that are not text or numbers")
        original(self)

    return load


def _refusing(what: str) -> Any:
    def load(_: Any) -> None:
        raise _Refused(what)

    return load


_ORIGINAL: Any = pickle._Unpickler  # type: ignore[attr-defined]


# The pure Python unpickler, not the compiled one: its memo is a dict, so that a large memo index
# in a hostile file costs nothing, where the compiled one allocates an array of that length.
class _Unpickler(_ORIGINAL):
    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._num_bytes = len(content)
        self._work = _Work(content)

    def load_bytearray8(self: Any) -> None:
        # The original takes the memory that the file claims to need before it reads.
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._num_bytes:
            raise _Refused(f"a bytearray of {size} bytes")
        self.append(bytearray(self.read(size)))

    def load_reduce(self: Any) -> None:
        if type(self.stack[-1]) is not tuple:
            raise _Refused("a call whose arguments are no tuple")
        self._work.take(len(self.stack[-1]))
        _ORIGINAL.load_reduce(self)

    def load_build(self: Any) -> None:
        if type(self.stack[-2]) not in (_Array, _Dtype):
            raise _Refused("the state of what is no array")
        _ORIGINAL.load_build(self)

    dispatch: ClassVar[dict[int, Any]] = {
        **_ORIGINAL.dispatch,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        **{
            opcode[0]: _refusing("an instance of a class")
            for opcode in (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX)
        },
        pickle.SETITEM[0]: _hashing(_ORIGINAL.load_setitem, slice(-2, -1)),
        pickle.SETITEMS[0]: _hashing(_ORIGINAL.load_setitems, slice(None, None, 2)),
        pickle.DICT[0]: _hashing(_ORIGINAL.load_dict, slice(None, None, 2)),
        pickle.ADDITEMS[0]: _hashing(_ORIGINAL.load_additems, slice(None)),
        pickle.FROZENSET[0]: _hashing(_ORIGINAL.load_frozenset, slice(None)),
    }

    def find_class(self, module: str, name: str) -> Any:
        # Stand-ins are made anew for each pickle: it may set attributes on what it is given.
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return lambda *_: _Array()
            case (("numpy.core.numeric" | "numpy._core.numeric"), "_frombuffer"):
                return lambda raw, dtype, shape, order: _Array(shape, dtype, order == "F", raw)
            case "numpy", "ndarray":
                return lambda *_: _ArrayType()
            case "numpy", "dtype":
                return lambda code, *_: _Dtype(code)
            case "_codecs", "encode":  # How protocol 2 writes bytes from Python 3.
                return _encode_latin1(self._work)
            case (("builtins" | "__builtin__"), ("set" | "frozenset")):  # Before protocol 4.
                return _make_set(frozenset if name == "frozenset" else set, self._work)
        raise _Refused(f"the name {f'{module}.{name}'[:_MAX_SHOWN]}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent reference")


def _encode_latin1(work: _Work) -> Any:
    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise _Refused("an encoding other than latin1")
        work.take(len(text))
        return text.encode("latin1")

    return encode


def _make_set(kind: type, work: _Work) -> Any:
    def make(items: Any = ()) -> Any:
        if type(items) not in (list, tuple) or any(type(item) not in _HASHED for item in items):
            raise _Refused("a set of what is no list of text or numbers")
        work.take(len(items))
        return kind(items)

    return make


def load(content: bytes, label: str) -> Any:
    """What a pickle holds: arrays, dicts, lists, tuples, sets, text, bytes and numbers.

    Text and bytes of Python 2 come as text where they are dict keys, else as bytes.

    Args:
        content: the pickle.
        label: what to call its file in a message.

    Raises:
        DamagedData: it is truncated, or names anything but arrays and builtin containers.
    """
    with reading(label, _EXPECTED):
        try:
            return _resolve(_Unpickler(content).load(), _MAX_DEPTH, {}, _Work(content))
        except _Refused as error:
            raise damaged(label, f"contains {error}", _EXPECTED) from error


def _resolve(value: Any, depth: int, known: dict[int, Any], work: _Work) -> Any:
    """The value with stand-ins replaced by arrays; nothing but the allowed types gets through.

    `known` holds what objects became, by their identity: a small file in which lists hold one
    another many times over would otherwise unfold without end.
    """
    if id(value) in known:
        return known[id(value)]
    if depth == 0:
        raise _Refused("containers nested too deeply")
    kind = type(value)
    if kind is _Array:
        resolved = value.build(work)
    elif kind is dict:
        items = value.items()
        resolved = {_key(key): _resolve(item, depth - 1, known, work) for key, item in items}
    elif kind in (list, tuple, set, frozenset):
        resolved = kind(_resolve(item, depth - 1, known, work) for item in value)
    elif value is None or kind in (bool, int, float, complex, str, bytes, bytearray):
        return value
    else:
        raise _Refused(f"a {kind.__name__.lstrip('_')}")
    known[id(value)] = resolved
    return resolved


def _key(key: Any) -> Any:
    if isinstance(key, bytes):
        return key.decode("latin1")
    if key is None or isinstance(key, str | int | float | bool):
        return key
    raise _Refused("a dict whose keys are not text or numbers")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin1")
    if not isinstance(value, str):
        raise _Refused("a dtype that is not named")
    return value
