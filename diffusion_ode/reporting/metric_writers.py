"""Where measured values go: the protocol, and several writers as one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class MetricWriter(Protocol):
    """Takes values by step. A resume doubles no point: `resume_at` is called before writing."""

    def resume_at(self, step: int | None) -> None:
        """Forget every value of a later step than `step`; all of them if None (a fresh run)."""
        ...

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write values by name, such as `train/bpd`; they reach the file before this returns."""
        ...

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write one picture, uint8 [height, width, 1 or 3]."""
        ...

    def close(self) -> None:
        """Let go of the files; writing again opens them again."""
        ...


class MetricWriters:
    """Several writers as one; a context that closes them."""

    def __init__(self, writers: Sequence[MetricWriter]):
        self._writers = tuple(writers)

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

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
