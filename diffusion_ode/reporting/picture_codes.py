"""What general-purpose picture formats make of images, for comparison."""

import importlib
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

_COLUMNS = 100  # WebP's limit is 16 383 pixels a side


def picture_codes(images: np.ndarray) -> dict[str, float]:
    """Bits per dimension of uint8 images [n, h, w, 1 or 3] under each format; of others none.

    In one sheet the images have each other to learn from, and headers are paid once.
    """
    if images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        return {}
    found, sheet = {}, _sheet(images)
    for name, code in _codes().items():
        alone = sum(len(code(image)) for image in images)
        found[f"{name}, each by itself"] = 8 * alone / images.size
        found[f"{name}, one sheet"] = 8 * len(code(sheet)) / images.size
    return found


def _codes() -> dict[str, Callable[[np.ndarray], bytes]]:
    """Of a picture [h, w, c] the file; JPEG XL, in which FLIF went up, with `imagecodecs`."""
    codes = {
        "PNG": lambda picture: _pillow(picture, format="png", optimize=True),
        "WebP": lambda picture: _pillow(picture, format="webp", lossless=True, method=4),
    }
    try:
        jpeg_xl = importlib.import_module("imagecodecs").jpegxl_encode
    except ImportError:
        return codes
    return codes | {"JPEG XL": lambda picture: jpeg_xl(picture, lossless=True, effort=9)}


def _sheet(images: np.ndarray) -> np.ndarray:
    """All images in one picture, blank ones where the last row is not full."""
    n, height, width, channels = images.shape
    columns = min(_COLUMNS, n)
    whole = np.pad(images, [(0, -n % columns), (0, 0), (0, 0), (0, 0)])
    sheet = whole.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    return sheet.reshape(-1, columns * width, channels)


def _pillow(picture: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    gray = picture.shape[-1] == 1
    Image.fromarray(picture[..., 0] if gray else picture).save(file, **options)
    return file.getvalue()
