"""Images stored as colour planes: the row of an image is all its R, then all G, then all B."""

import numpy as np

from data.errors import damaged


def images_from_planes(rows: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Rows uint8 [n, c·h·w] as images [n,h,w,c]."""
    height, width, channels = shape
    return rows.reshape(len(rows), channels, height, width).transpose(0, 2, 3, 1)


def check_rows(rows: object, row_bytes: int, label: str) -> np.ndarray:
    """The rows, if they are a uint8 array [n, row_bytes]; DamagedData if not."""
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.uint8
        or rows.ndim != 2
        or rows.shape[1] != row_bytes
    ):
        found = type(rows).__name__
        if isinstance(rows, np.ndarray):
            found = f"{rows.dtype} of shape {rows.shape}"
        raise damaged(label, f"has `data` {found}", f"uint8 of shape [n, {row_bytes}]")
    return rows


def rows_from_records(content: bytes, row_bytes: int, label: str) -> np.ndarray:
    """CIFAR-10's binary records, 1 label byte and then the planes, as rows uint8 [n, row_bytes]."""
    record = 1 + row_bytes
    if len(content) == 0 or len(content) % record:
        raise damaged(label, f"has {len(content)} bytes", f"a positive multiple of {record}")
    return np.frombuffer(content, np.uint8).reshape(-1, record)[:, 1:]
