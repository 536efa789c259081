"""Patches of the photographs inside scikit-learn and scikit-image: colour, and no download."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np

from data.checksum import file_checksum
from data.conversion import Conversion, convert
from data.errors import damaged, remedied
from data.formats import picture
from data.location import resolve_data_dir
from data.report import Report, say
from data.source import ImageData
from data.store import is_prepared, open_prepared
from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError

PATCH_SIZES = (16, 32)
DEFAULT_PATCH_SIZE = 32

_REMEDY = "install scikit-learn and scikit-image anew"
_SKLEARN = ("sklearn", "datasets/images")
_SKIMAGE = ("skimage", "data")

# The natural photographs in colour that both wheels really hold (others that scikit-image names are
# fetched on demand). motorcycle_right shows the scene of motorcycle_left again and is left out.
TRAIN_PHOTOGRAPHS = (
    (_SKLEARN, "china.jpg"),
    (_SKIMAGE, "astronaut.png"),
    (_SKIMAGE, "coffee.png"),
    (_SKIMAGE, "motorcycle_left.png"),
    (_SKIMAGE, "rocket.jpg"),
)
TEST_PHOTOGRAPHS = (
    (_SKLEARN, "flower.jpg"),
    (_SKIMAGE, "chelsea.png"),
)
_PATCHES_OF_LAST_PHOTOGRAPH = {16: 16171, 32: 3850}
_Photograph = tuple[tuple[str, str], str]


@dataclasses.dataclass(frozen=True)
class Photos:
    """Square colour patches, 256 levels, of 32×32 or 16×16.

    Training patches overlap (their distance is a quarter of their size) and come from five
    photographs; test patches do not overlap and come from two others.
    """

    patch_size: Literal[16, 32] = DEFAULT_PATCH_SIZE
    levels = 256

    __post_init__ = check_fields

    @property
    def name(self) -> str:
        return "photos" if self.patch_size == DEFAULT_PATCH_SIZE else f"photos_{self.patch_size}"

    @property
    def held_out(self) -> int:
        """The patches of the last training photograph: the only ones that overlap no others."""
        return _PATCHES_OF_LAST_PHOTOGRAPH[self.patch_size]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.patch_size, self.patch_size, 3)

    def load(self, data_dir: Path | None = None) -> ImageData:
        """The patches, cut and stored when first asked for."""
        folder = resolve_data_dir(data_dir)
        if not is_prepared(folder, self.name):
            self.prepare(folder)
        return open_prepared(self, folder)

    def prepare(self, data_dir: Path, report: Report = say) -> None:
        """Cut the patches and store them."""
        train = [_locate(photograph) for photograph in TRAIN_PHOTOGRAPHS]
        test = [_locate(photograph) for photograph in TEST_PHOTOGRAPHS]
        conversion = Conversion(
            name=self.name,
            shape=self.shape,
            levels=self.levels,
            counts={"train": None, "test": None},
            blocks={
                "train": [lambda f=file: _cut(f, self.patch_size, 4) for file in train],
                "test": [lambda f=file: _cut(f, self.patch_size, 1) for file in test],
            },
            sources=tuple((file.name, file_checksum(file)) for file in train + test),
            origin="The photographs in scikit-learn and scikit-image",
        )
        convert(conversion, data_dir, report)


def _locate(photograph: _Photograph) -> Path:
    """The file in its wheel, without importing the package (half a second each)."""
    (package, folder), name = photograph
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "The photographs come inside scikit-learn and scikit-image, and "
            f"{package} is not installed: `pip install scikit-learn scikit-image`."
        )
    path = Path(spec.submodule_search_locations[0]) / folder / name
    if not path.is_file():
        raise damaged(path, "is missing", f"a photograph of {package}'s wheel", _REMEDY)
    return path


def _cut(file: Path, size: int, steps_per_patch: int) -> np.ndarray:
    """All patches uint8 [n, size, size, 3] on a grid with `size / steps_per_patch` between them."""
    with remedied(_REMEDY):
        image = picture.decode(file, str(file), formats=("PNG", "JPEG"))
    step = size // steps_per_patch
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))
    grid = windows[::step, ::step]  # [rows, columns, 3, size, size]
    return grid.transpose(0, 1, 3, 4, 2).reshape(-1, size, size, 3)


DATA_SETS = tuple(map(Photos, PATCH_SIZES))
