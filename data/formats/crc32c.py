"""CRC-32C (Castagnoli; RFC 3720, appendix B.4) of many records at once.

The sum goes byte by byte, so one record in Python would be slow: NumPy takes the same byte of a
thousand records in one step.
"""

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Bit-reversed 0x1EDC6F41.
_ALL_ONES = np.uint32(0xFFFFFFFF)
# TFRecord files store rotated and shifted sums, so that a sum over sums is not degenerate.
_MASK_DELTA = np.uint32(0xA282EAD8)


def _make_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _make_table()


def crc32c(records: list[bytes]) -> np.ndarray:
    """The sums uint32 [n] of n records."""
    lengths = np.array([len(record) for record in records], np.int64)
    sums = np.full(len(records), _ALL_ONES, np.uint32)
    if not len(records):
        return sums
    # The longest first: the records that still have a byte j are then a prefix.
    order = np.argsort(-lengths, kind="stable")
    padded = np.zeros((lengths.max(initial=0), len(records)), np.uint8)
    for column, record in enumerate(order):
        padded[: lengths[record], column] = np.frombuffer(records[record], np.uint8)
    active = np.searchsorted(-lengths[order], -np.arange(len(padded)), side="left")
    running = sums.copy()
    for row, count in zip(padded, active, strict=True):
        current = running[:count]
        running[:count] = _TABLE[(current ^ row[:count]) & 0xFF] ^ (current >> np.uint32(8))
    sums[order] = running ^ _ALL_ONES
    return sums


def masked_crc32c(records: list[bytes]) -> np.ndarray:
    """The sums uint32 [n] as TFRecord files store them."""
    sums = crc32c(records)
    rotated = (sums >> np.uint32(15)) | (sums << np.uint32(17))
    return rotated + _MASK_DELTA
