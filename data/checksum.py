"""Checksums of files and of images, written `algorithm:hex` so that they say what they are."""

import hashlib
from pathlib import Path

import numpy as np

from data.errors import reading
from data.formats.archive import read_gzip
from diffusion_ode.foreign import open_regular

# Bytes hashed at a time: large enough to keep the hash busy, small enough for any memory.
BLOCK_BYTES = 1 << 22


def file_checksum(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file's bytes, e.g. `md5:c32a1d4a…`."""
    digest = hashlib.new(algorithm)
    with reading(path, "a file"), open_regular(path) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


def content_checksum(images: np.ndarray) -> str:
    """The SHA-256 of uint8 images [n,h,w,c] in order; memory-mapped arrays are read in pieces."""
    digest = hashlib.sha256()
    bytes_per_image = max(1, images[:1].nbytes)
    step = max(1, BLOCK_BYTES // bytes_per_image)
    for start in range(0, len(images), step):
        digest.update(np.ascontiguousarray(images[start : start + step]).data)
    return f"sha256:{digest.hexdigest()}"


def gzip_content_checksum(path: Path, *, max_bytes: int) -> str:
    """The SHA-256 of what a file holds once it is unpacked, gzipped or not; see `read_gzip`."""
    content = read_gzip(path, max_bytes=max_bytes)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
