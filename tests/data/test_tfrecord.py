"""TFRecord files without TensorFlow, every record's checksum verified."""

import pytest

from data.errors import DamagedData
from data.formats.crc32c import crc32c, masked_crc32c
from data.formats.tfrecord import blocks_of_records, example_bytes, shards


def test_crc32c_of_known_texts():
    """The check value of the Castagnoli polynomial, and RFC 3720, appendix B.4."""
    texts = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32)), b""]
    expected = [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0]
    assert crc32c(texts).tolist() == expected
    assert crc32c([]).tolist() == []


def test_masked_checksum_is_the_formats(archives):
    """The eight bytes that begin every record of three bytes."""
    length = (3).to_bytes(8, "little")
    crc = int(crc32c([length])[0])
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    assert masked_crc32c([length]).tolist() == [masked]
    assert archives.tfrecords([b"abc"])[8:12] == masked.to_bytes(4, "little")


def test_every_flipped_bit_is_found(archives, tmp_path):
    content = archives.tfrecords([b"first record", b"the second"])
    file = tmp_path / "a.tfrecord-00000-of-00001"
    file.write_bytes(content)
    assert list(blocks_of_records(file)) == [[b"first record", b"the second"]]
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        with pytest.raises(DamagedData):
            list(blocks_of_records(file))


def test_record_cut_off_or_of_absurd_length_is_refused(archives, tmp_path):
    file = tmp_path / "a.tfrecord-00000-of-00001"
    content = archives.tfrecords([b"a record"])
    for cut in range(1, len(content)):
        file.write_bytes(content[:cut])
        with pytest.raises(DamagedData, match=r"ends within a record|has a record of"):
            list(blocks_of_records(file))
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(DamagedData, match="has a record of"):
        list(blocks_of_records(file))


@pytest.mark.parametrize("message", [b"", b"\x0a", b"\x0a\xff", b"\xff" * 12, b"\x0b\x00", b"abc"])
def test_malformed_example_is_refused(message):
    with pytest.raises(DamagedData, match=r"image|malformed"):
        example_bytes(message, "image", "file")


def test_missing_shard_is_named(archives, tmp_path):
    for number in (0, 2):
        (tmp_path / f"cifar10-train.tfrecord-{number:05d}-of-00003").write_bytes(b"")
    with pytest.raises(DamagedData, match="has 2 files of train, where all 3"):
        shards(tmp_path)
