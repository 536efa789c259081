"""Files that Flax writes are read; whatever else is refused in one sentence, and cheaply."""

import random
import resource
import struct

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization

from diffusion_ode.checkpoints.state_dict import MAX_DEPTH, MAX_ENTRIES, read_state_dict
from diffusion_ode.errors import UserError


def array(shape, dtype="float32", content=None) -> msgpack.ExtType:
    if content is None:
        content = bytes(4 * int(np.prod(shape)))
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, content), use_bin_type=True))


@pytest.fixture
def read(tmp_path):
    """Reads a file of the given content."""

    def run(content):
        path = tmp_path / "ckpt-1.flax"
        path.write_bytes(content if isinstance(content, bytes) else msgpack.packb(content))
        return read_state_dict(path)

    return run


@pytest.fixture
def refused(read):
    """The one sentence of a refusal."""

    def run(content):
        with pytest.raises(UserError) as refusal:
            read(content)
        sentence = str(refusal.value)
        assert len(sentence.splitlines()) == 1
        assert "fetch it again" in sentence
        return sentence

    return run


SMALL = {
    "step": 7,
    "params": {"conv": {"kernel": np.arange(6.0, dtype=np.float32).reshape(1, 2, 3)}},
    "count": np.asarray(3, np.int32),
    "scalar": np.float32(0.5),
    "long": np.zeros(70_000, np.uint8),
    "half": np.ones(2, ml_dtypes.bfloat16),
    "none": {},
    "numbers": {"a": -1, "b": 200, "c": -40_000, "d": 2**40, "e": 0.25, "f": True, "g": None},
}


def test_what_flax_writes_is_read_as_flax_reads_it(read):
    content = serialization.msgpack_serialize(SMALL)
    found, expected = read(content), serialization.msgpack_restore(content)

    def compare(a, b):
        assert isinstance(a, dict) == isinstance(b, dict)
        if isinstance(a, dict):
            assert list(a) == list(b)
            for name in a:
                compare(a[name], b[name])
        else:
            assert np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_array_equal(a, b)

    compare(found, expected)


def test_arrays_are_views_of_the_file_and_cannot_be_written(read):
    kernel = read(serialization.msgpack_serialize(SMALL))["params"]["conv"]["kernel"]
    assert not kernel.flags.writeable
    assert not kernel.flags.owndata


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\xc1", "byte 0xc1"),
        (b"PK\x03\x04 an archive", "where a map should begin"),
        (b"\x80\x00", "1 bytes too many"),
        (b"\x82\xa1a\x01\xa1a\x02", "'a' twice"),
        (b"\x81\xa1\xff\x01", "not UTF-8"),
        (b"\x81\x01\x01", "where a name should begin"),
        (b"\x81\xdb\xff\xff\xff\xff", "4294967295 bytes"),
        (b"\xdf\xff\xff\xff\xff", f"more than {MAX_ENTRIES} entries"),
        ({"a": [1, 2]}, "should begin"),
        ({"a": "text"}, "should begin"),
        ({"a": b"bytes"}, "should begin"),
        ({"a": msgpack.ExtType(2, msgpack.packb((0.0, 1.0)))}, "code 2"),
        ({"a": msgpack.ExtType(1, b"")}, "ends too early"),
        ({"a": msgpack.ExtType(1, msgpack.packb([1, 2]))}, "shape, dtype and bytes"),
        ({"a": array((2,), "object", b"12345678" * 2)}, "dtype 'object'"),
        ({"a": array((2,), "complex64", b"12345678" * 2)}, "dtype 'complex64'"),
        ({"a": array((2,), "S4", b"12345678")}, "dtype 'S4'"),
        ({"a": array((3,), content=bytes(8))}, "has 8 bytes"),
        ({"a": array((2**31, 2**31, 4), content=b"")}, "has 0 bytes"),
        ({"a": array((2**62, 0), content=b"")}, "dimension 4611686018427387904"),
        ({"a": array((-1, -1), content=bytes(4))}, "dimension -1"),
        ({"a": array((0.5,), content=bytes(4))}, "dimension 0.5"),
        ({"a": array((1,) * 9, content=bytes(4))}, "9 dimensions"),
        ({"__msgpack_chunked_array__": True, "shape": {}, "chunks": {}}, "gigabyte"),
    ],
)
def test_malformed_file_is_refused_in_one_sentence(refused, content, says):
    assert says in refused(content)


def test_truncated_file_is_refused_wherever_it_ends(refused):
    content = serialization.msgpack_serialize(SMALL)
    for end in [*range(1, 300), *range(300, len(content), 7_001)]:
        assert "ends too early" in refused(content[:end])


def test_deep_nesting_is_refused(refused):
    assert f"more than {MAX_DEPTH} deep" in refused(b"\x81\xa1a" * 100_000 + b"\x80")


def test_claimed_sizes_cost_no_memory(refused):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    claims = [struct.pack(">BI", first, 2**32 - 1) for first in (0xDF, 0xDD, 0xDB, 0xC6, 0xC9)]
    for claim in claims:
        refused(claim)
        refused(b"\x81\xa1a" + claim + b"\x01")
        refused({"a": msgpack.ExtType(1, b"\x93" + claim)})
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kilobytes < 50_000


def test_flipped_bits_are_refused_or_read_but_never_anything_else(read):
    content = serialization.msgpack_serialize({**SMALL, "long": np.zeros(3, np.uint8)})
    chance = random.Random(0)
    refusals = 0
    for _ in range(1_000):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 3, 20))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            read(bytes(damaged))
        except UserError as refusal:
            assert len(str(refusal).splitlines()) == 1
            refusals += 1
    assert refusals > 300


def test_missing_file_and_folder_are_explained(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_state_dict(tmp_path / "ckpt-1.flax")
    with pytest.raises(UserError, match="Is a directory"):
        read_state_dict(tmp_path)
