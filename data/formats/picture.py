"""Pictures decoded by Pillow, with format and size checked before anything is decoded."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import damaged, reading
from diffusion_ode.errors import UserError

# A photograph of 64 megapixels; what claims to be larger could fill the memory.
MAX_PIXELS = 1 << 26


@contextlib.contextmanager
def opened(content: bytes | Path, label: str, formats: tuple[str, ...]) -> Iterator[Any]:
    """A picture as Pillow's, not decoded yet; what goes wrong with it here raises DamagedData.

    Args:
        content: the file's bytes, or its path.
        label: what to call it in a message.
        formats: Pillow's names of the formats allowed.
    """
    image_module = _pillow()
    file = content if isinstance(content, Path) else io.BytesIO(content)
    expected = f"a whole {' or '.join(formats)} picture"
    with (
        reading(label, expected, "cannot be decoded", "save it anew, or take it out"),
        image_module.open(file, formats=formats) as picture,
    ):
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise damaged(label, f"has {width} × {height} pixels", f"at most {MAX_PIXELS}")
        yield picture


def decode(
    content: bytes | Path,
    label: str,
    *,
    formats: tuple[str, ...] = ("PNG",),
    shape: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """A picture of a published data set as uint8 [h,w,c]: 1 channel if it is grey, 3 if not.

    Args:
        content, label, formats: see `opened`.
        shape: the one shape allowed; None allows all.

    Raises:
        DamagedData: it is no such picture, is damaged, or has another shape.
    """
    with opened(content, label, formats) as picture:
        width, height = picture.size
        if shape is not None and (height, width) != shape[:2]:
            raise damaged(label, f"is {height} × {width}", f"a picture of {shape[:2]}")
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            raise damaged(label, f"has mode {picture.mode}", "8 bits per channel")
        # Grey where the data set is grey (or left free and the file is): colour elsewhere.
        grey = picture.mode in ("1", "L", "LA") if shape is None else shape[2] == 1
        values = np.asarray(picture.convert("L" if grey else "RGB"))
    return values[..., np.newaxis] if grey else values


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError(
            "Reading pictures needs Pillow, which is not installed: `pip install pillow`."
        ) from error
    return Image
