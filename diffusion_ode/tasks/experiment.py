"""The root of every config."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.process.model import Model
from diffusion_ode.tasks import registry
from diffusion_ode.tasks.run import Task
from diffusion_ode.training.sharding import Mesh


@runtime_checkable
class Data(Protocol):
    """Where images come from and how training sees them: what the tasks need of it."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        ...

    @property
    def levels(self) -> int:
        """Values run from 0 to levels − 1."""
        ...

    def load(self, data_dir: Path | None = None) -> Any:
        """The images; raises UserError, which says how to get them, where they are not."""
        ...

    def train_batches(
        self, images: Any, *, batch_size: int, seed: int, rows: np.ndarray | None = None
    ) -> Any:
        """Endless shuffled batches with `get_state` and `set_state`: these rows of each, or all."""
        ...

    def test_batches(self, images: Any, *, batch_size: int, **limits: Any) -> Iterable[Any]:
        """The test images in order, each once, the last batch padded and masked."""
        ...


@dataclass(frozen=True)
class Experiment:
    """A model, its data, and what is done with them.

    Args:
      model: the diffusion ODE.
      data: the images.
      train: how it is trained.
      evaluate: how its likelihood is measured.
      sample: how images are drawn.
      mesh: how the devices are used.
      after_training: the tasks that run when training ends.
    """

    model: Model
    data: Data
    train: Task
    evaluate: Task
    sample: Task
    mesh: Mesh
    after_training: tuple[str, ...] = ("evaluate", "sample")

    def __post_init__(self):
        pixels = self.model.pixels
        if (tuple(pixels.shape), pixels.levels) != (tuple(self.data.shape), self.data.levels):
            raise UserError(
                f"The model is for images of shape {tuple(pixels.shape)} with {pixels.levels} "
                f"levels, the data {self.data.name} has {tuple(self.data.shape)} with "
                f"{self.data.levels}: set model.pixels to those of the data."
            )
        for name in self.after_training:
            if registry.find(name).name == "train":
                raise UserError("after_training names 'train', which has just ended: leave it out.")
