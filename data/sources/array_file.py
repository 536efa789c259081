"""A user's own images in an .npy or .npz file."""

import dataclasses
from pathlib import Path

import numpy as np

from data.errors import damaged, remedied
from data.formats.numpy_file import ArrayKind, npz_kinds, open_npy, read_npz
from data.source import ImageData, describe_images
from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Count, LevelCount
from diffusion_ode.remote import fetched

# One image in ten is enough to test on where nobody said how many.
TEST_FRACTION = 0.1
# An .npz is unpacked into memory (an .npy is mapped, whatever its size).
MAX_UNPACKED_BYTES = 16 << 30
# An axis of so few before two of one greater length holds channels.
FEW = 4
REMEDY = "save it anew with np.save or np.savez"
# Names under which an .npz may hold all images, one of them.
IMAGE_KEYS = ("images", "data", "arr_0")
VALIDATION = "validation"


@dataclasses.dataclass(frozen=True)
class ArrayFile:
    """Images uint8 [n,H,W,C] of a file: `.npy`, or `.npz` with `train` and `test`, or `images`.

    An `.npz` may have `validation` beside `train` and `test`. Nothing is converted; its other
    arrays, such as labels, are left out.

    Attributes:
        path: the file, of this machine or an address such as gs://bucket/images.npz.
        test_path: a second file, whose images are the test set; None if the first has both.
        num_test: without a test set of its own, how many images at the end become one; None: a
            tenth of them.
        levels: values run from 0 to levels − 1.
    """

    path: str
    test_path: str | None = None
    num_test: Count | None = None
    levels: LevelCount = 256

    __post_init__ = check_fields

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._arrays()[0].kind.shape[1:]
        return height, width, channels

    def load(self, data_dir: Path | None = None) -> ImageData:
        del data_dir  # They are read from where the user has them.
        arrays = self._arrays()
        notes = [note for array in arrays for note in array.left_out]
        parts = [array.read() for array in arrays]
        if len(parts) == 1:
            parts = self._divided(parts[0])
            notes.insert(0, f"test images: the last {len(parts[1])} of the file")
        train, test, *validation = parts
        known = np.concatenate([train, *validation]) if validation else train
        images = describe_images(self, known, test, notes=tuple(dict.fromkeys(notes)))
        if not validation:
            return images
        return dataclasses.replace(images, train=train, validation=validation[0])

    def _arrays(self) -> list["_Array"]:
        """Those of the training and of the test images, or the one of all; their headers fit."""
        path = fetched(self.path)
        if self.test_path is not None:
            other = fetched(self.test_path)
            arrays = [_one_of(path, "train"), _one_of(other, "test")]
        elif {"train", "test"} <= (kinds := _kinds(path)).keys():
            if self.num_test is not None:
                raise UserError(
                    f"{path} has test images of its own, and num_test={self.num_test} takes others:"
                    " leave data.source.num_test out."
                )
            splits = [name for name in ("train", "test", VALIDATION) if name in kinds]
            left_out = _left_out(path, kinds, set(splits))
            arrays = [_Array(path, name, kinds[name], left_out) for name in splits]
        else:
            arrays = [_one_of(path)]
        for array in arrays:
            array.check()
        shapes = [array.kind.shape[1:] for array in arrays]
        if len(set(shapes)) > 1:
            found = f"has images of {' and of '.join(map(str, dict.fromkeys(shapes)))}"
            raise damaged(self.path, found, "one shape", REMEDY)
        return arrays

    def _divided(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(images) == 1:
            raise UserError(
                f"{self.path} has one image, and one to train and one to test on are needed: add"
                " more."
            )
        num_test = self.num_test
        if num_test is None:
            num_test = max(1, round(len(images) * TEST_FRACTION))
        if not 0 < num_test < len(images):
            raise UserError(
                f"{self.path} has {len(images)} images, of which num_test={num_test} cannot "
                "be kept for testing: set data.source.num_test=1 or more, but fewer."
            )
        return images[:-num_test], images[-num_test:]


@dataclasses.dataclass(frozen=True)
class _Array:
    """An array of images in a file, and what is said of those beside it."""

    path: Path
    name: str
    kind: ArrayKind
    left_out: tuple[str, ...]

    def check(self) -> None:
        """Raises DamagedData if it does not hold images."""
        dtype, shape = self.kind
        if shape[:1] == (0,):
            raise damaged(self.path, "has no images", "at least one of each split", REMEDY)
        remedy = f"{REMEDY} as uint8, grey images with a last axis of 1"
        if len(shape) == 4 and shape[1] <= FEW < shape[2] == shape[3]:
            remedy = f"{REMEDY} with the channels last, as np.moveaxis({self.name}, 1, -1)"
        elif dtype == np.uint8 and len(shape) == 4 and 0 not in shape:
            return
        found = f"has `{self.name}` of {self.kind}"
        raise damaged(self.path, found, "uint8 of shape [n,H,W,C]", remedy)

    def read(self) -> np.ndarray:
        with remedied(REMEDY):
            if self.path.suffix == ".npy":
                return open_npy(self.path)
            limit, names = MAX_UNPACKED_BYTES, [self.name]
            return read_npz(self.path, str(self.path), max_bytes=limit, names=names)[self.name]


def _kinds(path: Path) -> dict[str, ArrayKind]:
    if path.is_dir():
        raise UserError(f"{path} is a folder: data.source=image_folder(path=…) reads one.")
    if not path.is_file():
        raise UserError(f"There is no file {path}: give the path of an .npy or .npz file.")
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"{path} is neither .npy nor .npz: {REMEDY}.")
    with remedied(REMEDY):
        if path.suffix == ".npz":
            return npz_kinds(path)
        array = open_npy(path)
    return {"images": ArrayKind(array.dtype, array.shape)}


def _one_of(path: Path, split: str | None = None) -> _Array:
    """The array that holds all images of a file, by its name, which may be that of the split."""
    kinds = _kinds(path)
    names = [name for name in (*IMAGE_KEYS, split) if name in kinds]
    if len(names) != 1:
        arrays = ", ".join(f"`{name}` {kind}" for name, kind in kinds.items())
        found = f"has {arrays or 'no array'}"
        expected = "`train` and `test`, or `images` alone"
        if split is not None:
            expected = f"`images` or `{split}` alone"
        raise damaged(path, found, expected, REMEDY)
    return _Array(path, names[0], kinds[names[0]], _left_out(path, kinds, {names[0]}))


def _left_out(path: Path, kinds: dict[str, ArrayKind], used: set[str]) -> tuple[str, ...]:
    others = (f"`{name}` {kind}" for name, kind in kinds.items() if name not in used)
    return tuple(f"left out: {other} of {path.name}" for other in others)
