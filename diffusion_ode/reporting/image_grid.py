"""Many small images as one picture."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_ode.workdir.files import replace_atomically

_LEAST_SIDE = 64  # an 8×8 scan is enlarged to this, else it is a stamp on today's screens
_WHITE = 255


def image_grid(images: np.ndarray, levels: int, columns: int | None = None) -> np.ndarray:
    """Lay images out in rows with white gaps, enlarging small ones by a whole factor.

    Images that would leave the last row incomplete are left out, unless `columns` is given.
    Of more than three channels the first three are shown as colours, of two the first as grey.

    Args:
        images: uint8 [n, h, w, c] of levels 0 … `levels` − 1, with n > 0.
        levels: how many levels there are; the highest becomes white.
        columns: images per row; by default about as many as there are rows, with the fewest left
            out.

    Returns:
        uint8 [height, width, 1 or 3].

    Raises:
        ValueError: the shape is another, or an image has a level that does not exist.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images have shape {images.shape}, not [n > 0, h, w, c > 0]")
    if images.min() < 0 or images.max() >= levels:
        raise ValueError(f"images have levels {images.min()} … {images.max()} of only {levels}")
    if columns is None:
        columns = _whole_rows(len(images))
        images = images[: len(images) // columns * columns]
    bright = brightness(images, levels)
    n, height, width, channels = bright.shape
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    factor = max(1, round(_LEAST_SIDE / max(height, width)))
    gap = max(1, factor // 2)

    large = bright.repeat(factor, axis=1).repeat(factor, axis=2)
    padded = np.pad(
        large, ((0, rows * columns - n), *((0, gap),) * 2, (0, 0)), constant_values=_WHITE
    )
    cells = padded.reshape(rows, columns, *padded.shape[1:])
    grid = cells.swapaxes(1, 2).reshape(rows * padded.shape[1], columns * padded.shape[2], channels)
    return np.pad(grid, ((gap, 0), (gap, 0), (0, 0)), constant_values=_WHITE)


def brightness(images: np.ndarray, levels: int) -> np.ndarray:
    """Levels [n, h, w, c] as uint8 [n, h, w, 1 or 3], as in a grid: the highest is white."""
    shown = images[..., : 3 if images.shape[-1] >= 3 else 1]
    return np.rint(shown.astype(np.float64) * (_WHITE / max(levels - 1, 1))).astype(np.uint8)


def _whole_rows(n: int) -> int:
    """Columns of a grid of n images, at least as wide as high, whose whole rows hold the most."""
    square = math.ceil(math.sqrt(n))
    return max(
        range(square, 2 * square + 1), key=lambda columns: (n // columns * columns, -columns)
    )


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [height, width, 1 or 3] as a PNG, atomically."""
    gray = picture.shape[-1] == 1
    with replace_atomically(path, "wb") as file:
        Image.fromarray(picture[..., 0] if gray else picture).save(file, format="png")
