"""The file `metrics.jsonl`: one line per logging step, numbers at full precision."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from diffusion_ode.workdir.files import replace_atomically


@dataclass
class JsonlWriter:
    """Writes lines such as `{"step": 100, "train/bpd": 2.31}`; a number that is not finite is null.

    Each line is handed to the operating system at once, so a kill costs at most half a line, which
    is dropped when the file is opened again.
    """

    _path: Path = field(init=False, repr=False, compare=False)
    _file: TextIO | None = field(default=None, init=False, repr=False, compare=False)

    def open(self, workdir: Path) -> None:
        self._path = workdir / "metrics.jsonl"

    def resume_at(self, step: int | None) -> None:
        self._rewrite(-math.inf if step is None else step)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._rewrite(math.inf)
            self._file = self._path.open("a")
        values = {name: v if math.isfinite(v) else None for name, v in scalars.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Pictures go elsewhere."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self, last_step: float) -> None:
        """Keep the whole lines up to a step; touches the file only if others are there."""
        self.close()
        if not self._path.exists():
            return
        with self._path.open(errors="replace") as file:
            lines = file.readlines()
        kept = [line for line in lines if _step(line) <= last_step]
        if kept != lines:
            with replace_atomically(self._path) as file:
                file.writelines(kept)


def _step(line: str) -> float:
    """The line's step; NaN, which is neither below nor above any step, if it is no whole line."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.nan
    except Exception:
        return math.nan
