"""What general-purpose picture formats make of images, for comparison."""

import io

import numpy as np
from PIL import Image

_FORMATS = {
    "PNG": {"format": "png", "optimize": True},
    "WebP": {"format": "webp", "lossless": True, "method": 4},
}
_COLUMNS = 100  # WebP's limit is 16 383 pixels a side


def picture_codes(images: np.ndarray) -> dict[str, float]:
    """Bits per dimension of uint8 images [n, h, w, 1 or 3] under each format; of others none.

    In one sheet the images have each other to learn from, and headers are paid once.
    """
    if images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        return {}
    found = {}
    for name, options in _FORMATS.items():
        alone = sum(_bits(image, **options) for image in images)
        found[f"{name}, each by itself"] = alone / images.size
        found[f"{name}, one sheet"] = sheet_bits(images, **options)
    return found


def sheet_bits(images: np.ndarray, **options) -> float:
    """Bits per dimension of all images [n, h, w, c] in one picture file, by Pillow's options.

    What does not fill a row of a large sheet is left out.
    """
    n, height, width, channels = images.shape
    columns = min(_COLUMNS, n)
    whole = images[: n - n % columns]
    sheet = whole.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(-1, columns * width, channels)
    return _bits(sheet, **options) / sheet.size


def _bits(picture: np.ndarray, **options) -> int:
    file = io.BytesIO()
    gray = picture.shape[-1] == 1
    Image.fromarray(picture[..., 0] if gray else picture).save(file, **options)
    return 8 * len(file.getvalue())
