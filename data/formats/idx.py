"""MNIST's idx files: a magic number, the sizes, then the values."""

import math
import struct
from pathlib import Path

import numpy as np

from data.errors import damaged, reading
from data.formats.archive import read_gzip

# Two zero bytes, 8 for unsigned bytes, 3 for three dimensions.
IMAGES_MAGIC = 0x00000803
_HEADER = struct.Struct(">4I")


def read_idx_images(path: Path, *, max_bytes: int) -> np.ndarray:
    """Grey images uint8 [n,h,w,1] of an idx3 file, gzipped or not."""
    content = read_gzip(path, max_bytes=max_bytes)
    if len(content) < _HEADER.size:
        raise damaged(path, f"has {len(content)} bytes", "an idx file with a header of 16")
    magic, *sizes = _HEADER.unpack_from(content)
    if magic != IMAGES_MAGIC:
        raise damaged(path, f"begins with {magic:#010x}", f"an idx3 file, {IMAGES_MAGIC:#010x}")
    if len(content) - _HEADER.size != math.prod(sizes):
        found = f"has {len(content) - _HEADER.size} bytes of images"
        raise damaged(path, found, " × ".join(map(str, sizes)))
    with reading(path, "a whole idx file"):  # 0 × 2³² × 2³² are as many bytes as there are
        return np.frombuffer(content, np.uint8, offset=_HEADER.size).reshape(*sizes, 1)
