"""TFRecord files of tf.train.Example, without TensorFlow.

A file is a chain of records: length (uint64), masked CRC-32C of the length, content, masked CRC-32C
of the content; all little-endian. An Example is a protocol buffer: Example.features (1) →
Features.feature (1), a map of entries key (1) and value (2) → Feature.bytes_list (1) →
BytesList.value (1).
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from data.errors import damaged, reading
from data.formats.crc32c import masked_crc32c
from diffusion_ode.foreign import open_regular

_LENGTH = struct.Struct("<QI")
_SUM = struct.Struct("<I")
# No record of a 32×32 image comes near; a larger length is damage, and must not take memory.
MAX_RECORD_BYTES = 1 << 24
RECORDS_PER_BLOCK, BYTES_PER_BLOCK = 1024, 1 << 26

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# cifar10-train.tfrecord-00000-of-00001, as tensorflow_datasets names its files.
_SHARD = re.compile(r"(?:^|-)(?P<split>[A-Za-z0-9_]+)\.tfrecord-(?P<number>\d+)-of-(?P<count>\d+)$")


def files(folder: Path) -> Iterator[Path]:
    """The TFRecord files in a folder and where `tensorflow_datasets` has them below.

    Not all that is below: a folder may be the home of a user, or hold all that is temporary.
    """
    for level in ("", "*/", "*/*/"):  # As of DATA_SET/CONFIG/VERSION.
        yield from folder.glob(f"{level}*.tfrecord-*")


def shards(folder: Path) -> dict[str, list[Path]]:
    """Per split, its TFRecord files in order; a file that is missing is damage."""
    found: dict[str, dict[int, Path]] = {}
    counts: dict[str, int] = {}
    for file in sorted(files(folder)):
        match = _SHARD.search(file.name)
        if match is None:
            continue
        split, number = match["split"], int(match["number"])
        if number in found.setdefault(split, {}):
            raise damaged(folder, f"has two files number {number} of {split}", "one version only")
        found[split][number] = file
        counts[split] = int(match["count"])
    for split, parts in found.items():
        if sorted(parts) != list(range(counts[split])):
            raise damaged(folder, f"has {len(parts)} files of {split}", f"all {counts[split]}")
    return {split: [parts[number] for number in sorted(parts)] for split, parts in found.items()}


def blocks_of_records(path: Path) -> Iterator[list[bytes]]:
    """The records of a file, their checksums verified.

    A block has RECORDS_PER_BLOCK of them, or fewer where these would have over BYTES_PER_BLOCK.
    """
    with reading(path, "a whole TFRecord file"), open_regular(path) as file:
        records: list[bytes] = []
        begin = 0
        while header := file.read(_LENGTH.size):
            records.append(_record(file, header, path))
            if len(records) == RECORDS_PER_BLOCK or file.tell() - begin > BYTES_PER_BLOCK:
                yield records
                records, begin = [], file.tell()
        if records:
            yield records
        elif file.tell() == 0:
            raise damaged(path, "is empty", "at least one record")


def _record(file: BinaryIO, header: bytes, path: Path) -> bytes:
    if len(header) < _LENGTH.size:
        raise damaged(path, "ends within a record", "a whole TFRecord file")
    length, length_sum = _LENGTH.unpack(header)
    if length > MAX_RECORD_BYTES:
        raise damaged(path, f"has a record of {length} bytes", f"at most {MAX_RECORD_BYTES}")
    content = file.read(length + _SUM.size)
    if len(content) < length + _SUM.size:
        raise damaged(path, "ends within a record", "a whole TFRecord file")
    record, (content_sum,) = content[:length], _SUM.unpack(content[length:])
    if masked_crc32c([header[:8], record]).tolist() != [length_sum, content_sum]:
        raise damaged(path, "has a record with a wrong CRC-32C", "undamaged records")
    return record


def example_bytes(record: bytes, feature: str, label: str) -> bytes:
    """The one bytes value of a feature of a serialised tf.train.Example."""
    with reading(label, "serialised tf.train.Example messages", "has a malformed record"):
        for features in _fields(record, 1):
            for entry in _fields(features, 1):
                if list(_fields(entry, 1)) == [feature.encode()]:
                    for value in _fields(entry, 2):
                        for bytes_list in _fields(value, 1):
                            (content,) = _fields(bytes_list, 1)
                            return content
    raise damaged(label, f"has a record without {feature!r}", f"the feature {feature!r}")


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """The length-delimited fields of that number in a protocol buffer's message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            _, position = _varint(message, position)
            continue
        if wire_type == _BYTES:
            length, position = _varint(message, position)
        elif wire_type == _FIXED64:
            length = 8
        elif wire_type == _FIXED32:
            length = 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + length > len(message):
            raise ValueError("a field that ends after its message")
        if wire_type == _BYTES and number == wanted:
            yield message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
