"""A writer of metrics from outside: one column of a csv file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fiddle as fdl
import numpy as np

from experiments.registry import experiment


@dataclass
class CsvWriter:
    """Writes `step,value` lines of one metric."""

    metric: str = "train/bpd"
    path: Path = field(init=False, compare=False)

    def open(self, workdir: Path) -> None:
        self.path = workdir / "curve.csv"

    def resume_at(self, step: int | None) -> None:
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        kept = [line for line in lines if step is not None and int(line.split(",")[0]) <= step]
        self.path.write_text("".join(kept))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(f"{step},{scalars[self.metric]}\n")

    def write_image(self, step: int, name: str, image: np.ndarray) -> None: ...

    def close(self) -> None: ...


@experiment(parent="digits_vp")
def digits_csv(config: fdl.Config) -> fdl.Config:
    """A curve that a spreadsheet opens."""
    config.train.writers += (fdl.Config(CsvWriter),)
    return config
