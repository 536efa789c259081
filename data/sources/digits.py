"""The handwritten digits that come inside scikit-learn: real scans, no download."""

import dataclasses
import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np

from data.errors import DamagedData
from data.source import ImageData, describe_images
from diffusion_ode.errors import UserError

NUM_IMAGES = 1797
NUM_TEST = 297
_TABLE = "datasets/data/digits.csv.gz"


@dataclasses.dataclass(frozen=True)
class Digits:
    """UCI's optical digits as scikit-learn ships them: 8×8, grey, 17 levels (0 to 16).

    Each pixel counts the inked ones of a 4×4 cell of a scan, hence 17 levels. Training images are
    the first 1500 in scikit-learn's order, test images the last 297.
    """

    name = "digits"
    shape = (8, 8, 1)
    levels = 17
    held_out = 150  # at the end of the training images, to choose by

    def load(self, data_dir: Path | None = None) -> ImageData:
        del data_dir  # They live in scikit-learn's own folder.
        values = _rows()[:, :-1]  # the last column says which digit it is
        if values.shape != (NUM_IMAGES, 64) or values.min() < 0 or values.max() >= self.levels:
            raise DamagedData(
                f"scikit-learn's digits have shape {values.shape} and values up to "
                f"{values.max():g}, where {NUM_IMAGES} rows of 64 with 17 levels are expected: "
                "install scikit-learn anew."
            )
        images = values.astype(np.uint8).reshape(-1, *self.shape)
        train, test = images[:-NUM_TEST], images[-NUM_TEST:]
        return describe_images(self, train, test)


def _rows() -> np.ndarray:
    """The table in scikit-learn's folder, read without importing scikit-learn: that takes longer
    than all else that comes before the first training step but compiling.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError(
            "The digits come inside scikit-learn, which is not installed: "
            "`pip install scikit-learn`."
        )
    path = Path(spec.origin).parent / _TABLE
    try:
        with gzip.open(path, "rt") as table:
            return np.loadtxt(table, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DamagedData(
            f"{path} is missing or damaged ({error}): install scikit-learn anew."
        ) from error


DATA_SETS = (Digits(),)
