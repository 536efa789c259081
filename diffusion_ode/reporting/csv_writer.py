"""The file `metrics.csv`: a row for each logged step, a column for each name."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffusion_ode.workdir.files import replace_atomically

_STEP = "step"


@dataclass
class CsvWriter:
    """Writes what a spreadsheet opens; a cell is empty where a step has no such value.

    The file is written anew, whole, when a name comes up that has no column yet.
    """

    _path: Path = field(init=False, repr=False, compare=False)
    _columns: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def open(self, workdir: Path) -> None:
        self._path = workdir / "metrics.csv"
        self._columns = []

    def resume_at(self, step: int | None) -> None:
        rows = self._rows()
        kept = [row for row in rows if step is not None and float(row[_STEP]) <= step]
        if kept != rows:
            self._rewrite(kept)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        row = {_STEP: str(step), **{name: repr(value) for name, value in scalars.items()}}
        if not self._columns or not row.keys() <= set(self._columns):
            rows = self._rows()
            self._columns += [name for name in row if name not in self._columns]
            self._rewrite([*rows, row])
            return
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Pictures go elsewhere."""

    def close(self) -> None: ...

    def _rows(self) -> list[dict[str, str]]:
        """The whole rows of the file, whose columns are known then; half a row is none."""
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8", newline="") as file:
            lines = [line for line in file if line.endswith("\n")]
        reader = csv.DictReader(lines)
        rows = [row for row in reader if None not in row.values() and row[_STEP].isdigit()]
        self._columns = list(reader.fieldnames or [])
        return rows

    def _rewrite(self, rows: Iterable[Mapping[str, str]]) -> None:
        with replace_atomically(self._path) as file:
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
