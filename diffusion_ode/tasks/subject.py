"""What a task works on: the part of an experiment that is no task's own settings."""

import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from diffusion_ode.diffusion.model import Model
from diffusion_ode.training.sharding import Mesh


@runtime_checkable
class Source(Protocol):
    """Where images come from."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: (height, width, channels)."""
        ...

    @property
    def levels(self) -> int:
        """Values run from 0 to levels − 1."""
        ...

    def load(self, data_dir: Path | None = None) -> Any:
        """The images; raises UserError, which says how to get them, where they are not."""
        ...


@runtime_checkable
class Data(Source, Protocol):
    """A source of images and how training sees them: what the tasks need of it."""

    @property
    def held_out(self) -> int:
        """How many images at the end of the training set are not trained on but choose."""
        ...

    def train_batches(
        self, images: Any, *, batch_size: int, seed: int, rows: np.ndarray | None = None
    ) -> Any:
        """Endless shuffled batches with `get_state` and `set_state`: these rows of each, or all."""
        ...


class Subject(Protocol):
    """A model, its data, and how the devices are used; an Experiment is one."""

    @property
    def model(self) -> Model: ...

    @property
    def data(self) -> Data: ...

    @property
    def mesh(self) -> Mesh: ...

    @property
    def after_training(self) -> tuple[str, ...]:
        """The tasks that run when training ends."""
        ...


def made_in(folder: Path, file: Path, names: str) -> bool:
    """Whether a task makes such a file: in this folder of its own, its name matches `names`."""
    file, folder = file.absolute().resolve(), folder.absolute().resolve()
    inside = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else ""
    return re.fullmatch(names, inside) is not None


def made_before(experiment: Subject, task: str, *makers: str) -> bool:
    """Whether after training one of these, or a task of one's own, comes before the task.

    Then a file that the task needs may not be there yet.
    """
    following = experiment.after_training
    before = following[: following.index(task)] if task in following else ()
    return any(name in makers or ":" in name for name in before)
