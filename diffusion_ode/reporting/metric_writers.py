"""Where measured values go: the protocol, and several writers as one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

WALL_TIME = "wall_time"
"""The scalar that is no curve: seconds since 1970, in every line."""

Setting = str | bool | int | float


@runtime_checkable
class MetricWriter(Protocol):
    """Takes values by step; a dataclass, whose fields are its settings.

    A launch calls `open`, then `resume_at`, so that a resume doubles no point; then it writes, and
    closes. Of several processes only the first one writes.
    """

    def open(self, workdir: Path) -> None:
        """From now on it writes into this folder, which exists; nothing is written yet.

        Raises:
          UserError: it cannot, as a library is missing: nothing has begun.
        """
        ...

    def resume_at(self, step: int | None) -> None:
        """Forget every value of a later step than `step`; all of them if None (a fresh run)."""
        ...

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write values by name, such as `train/bpd`; they reach the file before this returns.

        One of them is `WALL_TIME`.
        """
        ...

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write one picture, uint8 [height, width, 1 or 3]."""
        ...

    def close(self) -> None:
        """Let go of the files; writing again opens them again."""
        ...


@runtime_checkable
class HistogramWriter(Protocol):
    """A metric writer that takes histograms too."""

    def write_histogram(self, step: int, name: str, edges: np.ndarray, heights: np.ndarray) -> None:
        """Write the heights of bins, one fewer than their edges."""
        ...


@runtime_checkable
class ConfigWriter(Protocol):
    """A metric writer that takes the run's config too."""

    def write_config(self, step: int, text: str, settings: Mapping[str, Setting]) -> None:
        """Write what the training goes on under from a step on.

        Args:
          step: at which it begins or goes on.
          text: the config document as JSON.
          settings: of it by path, such as `train.seed`; a piece by its name.
        """
        ...


class MetricWriters:
    """Several writers as one, opened in a folder; a context that closes them."""

    def __init__(self, writers: Sequence[MetricWriter], workdir: Path):
        self._writers = tuple(writers)
        for writer in self._writers:
            writer.open(workdir)

    def __enter__(self) -> "MetricWriters":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume_at(self, step: int | None) -> None:
        for writer in self._writers:
            writer.resume_at(step)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        plain = {name: float(value) for name, value in scalars.items()}
        for writer in self._writers:
            writer.write_scalars(step, plain)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        for writer in self._writers:
            writer.write_image(step, name, image)

    def write_histogram(self, step: int, name: str, edges: np.ndarray, heights: np.ndarray) -> None:
        for writer in self._writers:
            if isinstance(writer, HistogramWriter):
                writer.write_histogram(step, name, edges, heights)

    def write_config(self, step: int, text: str, settings: Mapping[str, Setting]) -> None:
        for writer in self._writers:
            if isinstance(writer, ConfigWriter):
                writer.write_config(step, text, settings)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
