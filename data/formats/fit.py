"""Pictures of many kinds made images of one shape, by what was asked for and by nothing else."""

import dataclasses
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import damaged
from data.formats.picture import opened
from diffusion_ode.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
# Whatever the suffix; a JPEG in which a camera has put a second picture, an MPO, is one of them.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_MODES = {channels: mode for mode, channels in CHANNELS.items()}
# Of a file's own packing: Pillow gives 8 bits of such colours without a word.
_DEEP = re.compile(r"(I|L|LA|RGB[AaX]?|CMYK);1[26]")
_TURNED, _ON_ITS_SIDE = range(2, 9), range(5, 9)  # EXIF's orientations
_IN_WORDS = {
    "L": "grey",
    "LA": "grey and opacity",
    "RGB": "colour",
    "RGBA": "colour and opacity",
}


class Header(NamedTuple):
    """What a picture's file says of it before it is decoded.

    Attributes:
        height, width: as it is shown.
        mode: L, LA, RGB or RGBA, whatever it is packed as; else Pillow's own name, such as CMYK.
        bits: per channel.
        frames: of an animation, or pages.
        turned: whether it is shown otherwise than it is stored.
        palette: whether its pixels are numbers of colours.
    """

    height: int
    width: int
    mode: str
    bits: int
    frames: int
    turned: bool
    palette: bool


def read_header(file: Path) -> Header:
    """The header of a picture; raises DamagedData where it has none."""
    with opened(file, str(file), FORMATS) as picture:
        width, height = picture.size
        orientation = _orientation(picture)
        if orientation in _ON_ITS_SIDE and picture.format != "TIFF":  # whose size is as shown
            width, height = height, width
        mode, bits = _kind(picture)
        frames = getattr(picture, "n_frames", 1)
        turned, palette = orientation in _TURNED, picture.mode in ("P", "PA")
        return Header(height, width, mode, bits, frames, turned, palette)


def _kind(picture: Any) -> tuple[str, int]:
    """The mode once it is unpacked, and the bits per channel."""
    packing = picture.tile[0].args if picture.tile else picture.mode
    packing = packing if isinstance(packing, str) else packing[0]
    mode = picture.mode
    bits = 32 if mode in ("I", "F") else 16 if _DEEP.match(f"{packing}") else 8
    bits = 1 if mode == "1" else bits
    if picture.format == "TIFF" and packing.startswith("RGBX"):
        return "RGB with another channel", bits  # which Pillow leaves out
    opaque = "L" if mode[:1] in ("1", "L", "I", "F") and mode != "LAB" else mode.rstrip("AaX")
    opaque = "RGB" if opaque in ("P", "RGB") else opaque
    transparent = opaque in ("L", "RGB") and picture.has_transparency_data
    return (f"{opaque}A" if transparent else opaque), bits


def _orientation(picture: Any) -> int:
    from PIL import ExifTags, Image

    # A PNG's own method would decode all of it.
    exif = Image.Image.getexif(picture)
    return exif.get(ExifTags.Base.Orientation, 1)


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is done to pictures. Nothing else is: a picture that needs it is refused.

    Attributes:
        resize: their shorter side becomes this, by Lanczos's filter; None leaves it.
        crop: a square of this side is taken from the middle; None takes all.
        channels: 1 grey, 2 grey and opacity, 3 colour, 4 colour and opacity; None: as they are.
        eight_bits: of more bits per channel the upper eight are taken.
        first_frame: of animations and of several pages the first is taken.
    """

    resize: int | None = None
    crop: int | None = None
    channels: int | None = None
    eight_bits: bool = False
    first_frame: bool = False

    def __post_init__(self):
        for name in ("resize", "crop"):
            if (side := getattr(self, name)) is not None and side < 1:
                raise UserError(f"{name} = {side} is no side of a picture: give at least 1.")
        if self.channels not in (None, *_MODES):
            raise UserError(
                f"channels = {self.channels} cannot be made of a picture: give 1 for grey, 3 for"
                " colour, 2 or 4 for those with opacity, or None for what the pictures have."
            )

    def problem(self, header: Header) -> tuple[str, str] | None:
        """What stands in the way of a picture's fitting and the remedy; None if nothing does."""
        if header.frames > 1 and not self.first_frame:
            return "several frames or pages", "set data.source.first_frame=True to take the first"
        if header.bits == 32:
            return "32 bits per channel", "save them with 8"
        if header.bits > 8 and not self.eight_bits:
            remedy = "set data.source.eight_bits=True to take the upper 8"
            return f"{header.bits} bits per channel", remedy
        if header.mode not in CHANNELS and self.channels not in (1, 3):
            return f"colours in {header.mode}", "set data.source.channels=3 to convert them"
        if self.crop is not None and min(self._resized(header)) < self.crop:
            less = f"less than {self.crop} pixels on a side"
            return less, f"set data.source.resize={self.crop} to enlarge them"
        return None

    def shape(self, header: Header) -> tuple[int, int, int]:
        """Of the image that is made of a picture without a problem."""
        height, width = (self.crop, self.crop) if self.crop else self._resized(header)
        return height, width, self.channels or CHANNELS.get(header.mode, 3)

    def changes(self, header: Header) -> list[str]:
        """What is done to a picture, in words."""
        wanted = _MODES[self.shape(header)[2]]
        mode = _IN_WORDS.get(header.mode, header.mode)
        before, after = min(header[:2]), min(self._resized(header))
        done = {
            "turned upright by EXIF": header.turned,
            "of several frames or pages, of which the first is taken": header.frames > 1,
            "of more than 8 bits, of which the upper 8 are taken": header.bits > 8,
            "of 1 bit, as values 0 and 255": header.bits == 1,
            "of a palette, looked up": header.palette,
            f"from {mode} to {_IN_WORDS[wanted]}": header.mode != wanted,
            "reduced in size": after < before,
            "enlarged": after > before,
            "cropped": self.shape(header)[:2] != self._resized(header),
        }
        return [words for words, is_done in done.items() if is_done]

    def image(self, file: Path, shape: tuple[int, int, int]) -> np.ndarray:
        """The image uint8 [h,w,c] of a picture without a problem; DamagedData if it is damaged."""
        from PIL import Image, ImageOps

        header = read_header(file)
        with opened(file, str(file), FORMATS) as picture:
            picture.load()  # which turns a TIFF
            if picture.format != "TIFF" and (_orientation(picture) in _TURNED) != header.turned:
                raise damaged(file, "says after its pixels how it is turned", "that before them")
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if header.mode not in CHANNELS:
                upright = upright.convert("RGB")
            fitted = upright.convert(_MODES[shape[2]])
            height, width = self._resized(header)
            if self.resize is not None:
                fitted = fitted.resize((width, height), Image.Resampling.LANCZOS)
            if self.crop is not None:
                left, top = (width - self.crop) // 2, (height - self.crop) // 2
                fitted = fitted.crop((left, top, left + self.crop, top + self.crop))
            return np.asarray(fitted).reshape(shape)

    def _resized(self, header: Header) -> tuple[int, int]:
        if self.resize is None:
            return header.height, header.width
        shorter = min(header.height, header.width)
        height, width = (
            max(1, round(side * self.resize / shorter)) for side in (header.height, header.width)
        )
        return height, width


def survey(fit: Fit, files: Sequence[Path]) -> dict[str, list[Path]]:
    """What will be done to which pictures, by their headers, before any of it is done.

    Raises:
        UserError: some need what was not asked for, or images of several shapes would come of them.
        DamagedData: a file is no picture.
    """
    problems: dict[tuple[str, str], list[Path]] = {}
    changes: dict[str, list[Path]] = {}
    shapes: dict[tuple[int, int, int], Path] = {}
    with ThreadPoolExecutor() as threads:
        for file, header in zip(files, threads.map(read_header, files), strict=True):
            if problem := fit.problem(header):
                problems.setdefault(problem, []).append(file)
            else:
                shapes.setdefault(fit.shape(header), file)
                for change in fit.changes(header):
                    changes.setdefault(change, []).append(file)
    for (what, remedy), found in problems.items():
        have, them = ("has", "it") if len(found) == 1 else ("have", "them")
        raise UserError(
            f"{len(found)} of {len(files)} pictures {have} {what}, such as {found[0]}: {remedy}, or"
            f" take {them} out."
        )
    if len(shapes) > 1:
        (shape, one), (other, another) = list(shapes.items())[:2]
        what, remedy = "sizes", "data.source.resize=32 and data.source.crop=32, for instance"
        if shape[2] != other[2]:
            what, remedy = "numbers of channels", "data.source.channels=1 for grey, =3 for colour"
            if not {shape[2], other[2]} <= {1, 3}:
                remedy += ", =4 for colour and opacity"
        raise UserError(
            f"Pictures would become images of different {what}, such as {'×'.join(map(str, shape))}"
            f" of {one} and {'×'.join(map(str, other))} of {another}: set {remedy}."
        )
    return changes
