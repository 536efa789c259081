"""The file `metrics.jsonl`: one line per logging step, numbers at full precision."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from diffusion_ode.foreign import lines_of, open_regular, refused
from diffusion_ode.workdir.files import replace_atomically

FILE = "metrics.jsonl"
MAX_LINE = 1 << 20  # bytes: some ten thousand values


@dataclass
class JsonlWriter:
    """Writes lines such as `{"step": 100, "train/bpd": 2.31}`; a number that is not finite is null.

    Each line is handed to the operating system at once, so a kill costs at most half a line, which
    is dropped when the file is opened again.
    """

    _path: Path = field(init=False, repr=False, compare=False)
    _file: TextIO | None = field(default=None, init=False, repr=False, compare=False)

    def open(self, workdir: Path) -> None:
        self._path = workdir / FILE

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
        with refused(lambda why: f"{self._path} cannot be read ({why}): move it away."):
            if all(_step(line) <= last_step for line in self._lines()):
                return
            with replace_atomically(self._path, "wb") as file:
                file.writelines(line for line in self._lines() if _step(line) <= last_step)

    def _lines(self) -> Iterator[bytes]:
        with open_regular(self._path) as file:
            yield from lines_of(file, MAX_LINE)


def _step(line: bytes) -> float:
    """The line's step; NaN, which is neither below nor above any step, if it is no whole line."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.nan
    except Exception:
        return math.nan
