"""Which images a model is judged on."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diffusion_ode.reporting.quantities import counted
from diffusion_ode.training.data_identity import DataIdentity

Split = Literal["train", "validation", "test"]
SPLITS = {"train": "training", "validation": "validation", "test": "test"}
"""The splits, and what their images are called."""


@dataclass(frozen=True)
class JudgedImages:
    """The first images of a split.

    Attributes:
      levels: [n, h, w, c].
      identity: of the data set.
      split: one of SPLITS.
      split_size: how many images the whole split has.
    """

    levels: np.ndarray
    identity: DataIdentity
    split: str
    split_size: int

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def split_identity(self) -> str:
        """Differs where the same index is another image."""
        held = "" if self.split == "test" else f", {self.split_size} {self.split} images"
        return f"{self.identity}{held}"

    def facts(self) -> dict[str, Any]:
        """For `result.json`."""
        return {
            "name": self.identity.name,
            "split": self.split,
            "fingerprint": self.identity.fingerprint,
            "num_images": len(self),
            "split_images": self.split_size,
            "shape": list(self.levels.shape[1:]),
        }

    def __str__(self) -> str:
        return f"{counted(len(self), f'{SPLITS[self.split]} image')} of {self.identity}"
