"""A pickle can give arrays and builtin containers; it can call nothing."""

import builtins
import collections
import datetime
import functools
import operator
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.errors import DamagedData
from data.formats.restricted_pickle import load


class Reduces:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def hostile(mark: Path):
    command = f"touch {mark}"
    return {
        "os.system": Reduces(os.system, command),
        "eval": Reduces(builtins.eval, f"open({str(mark)!r}, 'w')"),
        "exec": Reduces(builtins.exec, f"open({str(mark)!r}, 'w')"),
        "getattr": Reduces(builtins.getattr, 1, "real"),
        "subprocess": Reduces(subprocess.check_output, ["touch", str(mark)]),
        "inside a container": {"data": [1, (2, Reduces(os.system, command))]},
        "as a key": {Reduces(os.system, command): 1},
        "chain of calls": Reduces(
            operator.methodcaller("__call__", command), Reduces(functools.partial, os.system)
        ),
        "as an argument of an array": Reduces(
            np.ndarray(1).__reduce__()[0], np.ndarray, Reduces(os.system, command), b"b"
        ),
        "numpy's own loader": Reduces(np.load, str(mark)),
        "import": Reduces(builtins.__import__, "os"),
        "a date": datetime.date(2020, 1, 1),
        "an ordered dict": collections.OrderedDict(a=1),
        "a function": os.system,
        "a path": mark,
    }


@pytest.mark.parametrize("what", sorted(hostile(Path("/nowhere"))))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_names_anything_else_is_refused_and_runs_nothing(what, protocol, tmp_path):
    mark = tmp_path / "ran"
    content = pickle.dumps(hostile(mark)[what], protocol)
    with pytest.raises(DamagedData, match="a pickle of NumPy arrays and builtin containers"):
        load(content, "batch")
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL and REDUCE.
        b"(S'true'\nios\nsystem\n.",  # INST.
        b"(cos\nsystem\nS'true'\no.",  # OBJ.
        b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",  # STACK_GLOBAL.
        b"\x80\x02cos\nsystem\n)\x81.",  # NEWOBJ.
        b"\x8c\x05numpy\x8c\x0bcore.system\x93.",  # A nested name.
        b"\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
        b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x0511+11\x85R.",
        b"P1\n.",  # A persistent reference.
        b"\x82\x01.",  # An extension code.
        b"cnumpy\ndtype\n.",  # The stand-in itself is nothing to return.
        b"cnumpy\ndtype\n}X\x08\x00\x00\x00__code__K\x01sb.",  # Attributes set on a stand-in.
        b"\x80\x04\x95",  # Cut off.
        b"",
        b"r\xff\xff\xff\x7f.",  # A memo index of two billion.
        b"K\x01r\xff\xff\xff\x7f0",
        b"]" * 10**5 + b"a" * (10**5 - 1) + b".",  # Nested without end.
        b"not a pickle",
    ],
)
def test_malformed_pickle_is_refused(content):
    with pytest.raises(DamagedData):
        load(content, "batch")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_containers_come_through(protocol, order):
    rows = np.asarray(np.arange(12, dtype=np.uint8).reshape(3, 4), order=order)
    batch = {
        "data": rows,
        "mean": np.linspace(0, 1, 5),
        "labels": [1, 2, 3],
        "misc": ("a", None, True, 2.5, {1, 2}),
        "big_endian": np.arange(3, dtype=">i4"),
    }
    loaded = load(pickle.dumps(batch, protocol), "batch")
    assert list(loaded) == list(batch)
    for name in ("data", "mean", "big_endian"):
        np.testing.assert_array_equal(loaded[name], batch[name])
        assert loaded[name].dtype == batch[name].dtype
    assert loaded["labels"] == batch["labels"]
    assert loaded["misc"][1:] == batch["misc"][1:]


def test_array_of_objects_or_false_shape_is_refused():
    with pytest.raises(DamagedData, match="dtype"):
        load(pickle.dumps(np.array([{}, []], dtype=object)), "batch")
    content = pickle.dumps(np.zeros((3, 4), np.uint8), 4)
    with pytest.raises(DamagedData, match="shape"):
        load(content.replace(b"K\x03K\x04\x86", b"K\x7fK\x7f\x86"), "batch")


def test_small_pickle_cannot_fill_the_memory_or_take_forever():
    claimed = b"\x80\x05\x96" + (1 << 36).to_bytes(8, "little") + b"abc."
    with pytest.raises(DamagedData, match="a bytearray of 68719476736 bytes"):
        load(claimed, "batch")
    laughs = [1]
    for _ in range(10):
        laughs = [laughs] * 1000  # A thousand to the tenth, if unfolded.
    assert len(load(pickle.dumps(laughs), "batch")) == 1000
    for _ in range(10):
        laughs = [laughs]
    with pytest.raises(DamagedData, match="nested too deeply"):
        load(pickle.dumps(laughs), "batch")


def _tripled(depth: int) -> bytes:
    """A tuple of three times the same tuple, and so on: 3 ** depth leaves, in 3 bytes a level."""
    return b"\x85" + b"22\x87" * depth


_TRIPLED = b"K\x01" + _tripled(40)


@pytest.mark.parametrize(
    "content",
    {
        "as a key": b"\x80\x04}" + _TRIPLED + b"K\x01s.",
        "as one of many keys": b"\x80\x04}(K\x02K\x02" + _TRIPLED + b"K\x01u.",
        "as a key of a dict made at once": b"(" + _TRIPLED + b"K\x01d.",
        "added to a set": b"\x80\x04\x8f(" + _TRIPLED + b"\x90.",
        "in a frozenset": b"\x80\x04(" + _TRIPLED + b"\x91.",
        "in a called set": b"\x80\x02cbuiltins\nset\n](" + _TRIPLED + b"e\x85R.",
        "as a shape": pickle.dumps(np.zeros((3, 4), np.uint8), 4).replace(
            b"K\x03K\x04\x86", _TRIPLED
        ),
        "as a state": b"cnumpy\ndtype\nU\x02u1\x85R" + _TRIPLED + b"b.",
        "a text encoded over and over": b"c_codecs\nencode\nq\x00X"
        + (10**6).to_bytes(4, "little")
        + b"a" * 10**6
        + b"q\x01](h\x00h\x01\x85R"
        + b"h\x00h\x01\x85R" * 10**5
        + b"e.",
        "a list made a set over and over": b"cbuiltins\nset\nq\x00]("
        + b"K\x01" * 10**5
        + b"eq\x01]("
        + b"h\x00h\x01\x85R" * 10**5
        + b"e.",
        "a list as arguments over and over": b"cnumpy\nndarray\nq\x00("
        + b"K\x01" * 10**5
        + b"tq\x01]("
        + b"h\x00h\x01R" * 10**5
        + b"e.",
    }.items(),
    ids=lambda item: item[0],
)
def test_small_pickle_that_unfolds_without_end_is_refused_at_once(content):
    """In a process of its own, so that a reader that hangs, or fills the memory, is ended."""
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from data.errors import DamagedData\n"
        "from data.formats.restricted_pickle import load\n"
        "try: load(sys.stdin.buffer.read(), 'batch')\n"
        "except DamagedData as error: print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        input=content[1],
        capture_output=True,
        timeout=20,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert b"batch contains" in ended.stdout, ended.stderr.decode()
    assert len(ended.stdout) < 500


def test_pickle_of_python_2_is_read():
    """The official archive was written by Python 2: keys and bytes come as its `str`."""
    content = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85q\x05U\x01bq\x06\x87q\x07Rq\x08(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\tU\x02"
        b"u1q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01|q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
        b"tq\x0eb\x89U\x02\xfe\x07q\x0ftq\x10bs."
    )
    np.testing.assert_array_equal(load(content, "batch")["data"], [[254, 7]])
