"""CRC-32C (Castagnoli; RFC 3720, appendix B.4), as TFRecord files store it."""

from collections.abc import Sequence

import google_crc32c
import numpy as np

# TFRecord files store rotated and shifted sums, so that a sum over sums is not degenerate.
_MASK_DELTA = np.uint32(0xA282EAD8)


def crc32c(records: Sequence[bytes]) -> np.ndarray:
    """The sums uint32 [n] of n records."""
    return np.array([google_crc32c.value(record) for record in records], np.uint32)


def masked_crc32c(records: Sequence[bytes]) -> np.ndarray:
    """The sums uint32 [n] as TFRecord files store them."""
    sums = crc32c(records)
    return ((sums >> np.uint32(15)) | (sums << np.uint32(17))) + _MASK_DELTA
