"""A user's own images in an .npy or .npz file."""

import dataclasses
from pathlib import Path

import numpy as np

from data.errors import damaged, remedied
from data.formats.numpy_file import open_npy, read_npz
from data.source import ImageData, describe_images
from diffusion_ode.errors import UserError

# One image in ten is enough to test on where nobody said how many.
TEST_FRACTION = 0.1
# An .npz is unpacked into memory (an .npy is mapped, whatever its size).
MAX_UNPACKED_BYTES = 16 << 30
REMEDY = "save it anew with np.save or np.savez"
# Names under which an .npz may hold all images, in order of preference.
IMAGE_KEYS = ("images", "data", "arr_0")


@dataclasses.dataclass(frozen=True)
class ArrayFile:
    """Images uint8 [n,H,W,C] of a file: `.npy`, or `.npz` with `train` and `test`, or `images`.

    Attributes:
        path: the file.
        test_path: a second file, whose images are the test set; None if the first has both.
        num_test: without a test set of its own, how many images at the end become one; None: a
            tenth of them.
        levels: values run from 0 to levels − 1.
    """

    path: str
    test_path: str | None = None
    num_test: int | None = None
    levels: int = 256

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._split()[0].shape[1:]

    def load(self, data_dir: Path | None = None) -> ImageData:
        del data_dir  # They are read from where the user has them.
        return describe_images(self, *self._split())

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        arrays = _read(Path(self.path).expanduser())
        if self.test_path is not None:
            other = _read(Path(self.test_path).expanduser())
            train, test = _all_images(arrays, self.path), _all_images(other, self.test_path)
        elif "train" in arrays and "test" in arrays:
            train, test = arrays["train"], arrays["test"]
        else:
            images = _all_images(arrays, self.path)
            _check(images, self.path)
            if len(images) == 1:
                raise damaged(self.path, "has one image", "one to train and one to test on", REMEDY)
            num_test = self.num_test
            if num_test is None:
                num_test = max(1, round(len(images) * TEST_FRACTION))
            if not 0 < num_test < len(images):
                raise UserError(
                    f"{self.path} has {len(images)} images, of which num_test={num_test} cannot "
                    "be kept for testing: set data.source.num_test to fewer, but at least 1."
                )
            train, test = images[:-num_test], images[-num_test:]
        for images in (train, test):
            _check(images, self.path)
        if train.shape[1:] != test.shape[1:]:
            found = f"has training images of {train.shape[1:]}, test images of {test.shape[1:]}"
            raise damaged(self.path, found, "one shape", REMEDY)
        return train, test


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"There is no file {path}: set data.source.path to an .npy or .npz file.")
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"{path} is neither .npy nor .npz: {REMEDY}.")
    with remedied(REMEDY):
        if path.suffix == ".npz":
            return read_npz(path, str(path), max_bytes=MAX_UNPACKED_BYTES)
        return {"images": open_npy(path)}


def _all_images(arrays: dict[str, np.ndarray], label: str) -> np.ndarray:
    for key in IMAGE_KEYS:
        if key in arrays:
            return arrays[key]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    found = f"has uint8 arrays called {', '.join(arrays) or '(none)'}"
    raise damaged(label, found, "`train` and `test`, or `images`", REMEDY)


def _check(images: np.ndarray, label: str) -> None:
    if images.shape[:1] == (0,):
        raise damaged(label, "has no images", "at least one of each split", REMEDY)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        found = f"has {images.dtype} of shape {images.shape}"
        remedy = f"{REMEDY} as uint8, grey images with a last axis of 1"
        raise damaged(label, found, "uint8 of shape [n,H,W,C]", remedy)
