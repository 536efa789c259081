"""The file `metrics.csv`: a row for each logged step, a column for each name."""

import contextlib
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffusion_ode.foreign import lines_of, open_regular, refused
from diffusion_ode.workdir.files import replace_atomically

_STEP = "step"
_MAX_LINE = 1 << 17  # bytes: Python's reader takes no longer field


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
        def stays(row: Mapping[str, str]) -> bool:
            return bool(row) and step is not None and float(row[_STEP]) <= step

        self._columns = self._header()
        if not all(map(stays, self._rows())):
            self._rewrite(filter(stays, self._rows()))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        row = {_STEP: str(step), **{name: repr(value) for name, value in scalars.items()}}
        if not self._columns or not row.keys() <= set(self._columns):
            self._columns = self._header()
            self._columns += [name for name in row if name not in self._columns]
            self._rewrite(itertools.chain(filter(None, self._rows()), [row]))
            return
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """Pictures go elsewhere."""

    def close(self) -> None: ...

    def _header(self) -> list[str]:
        with self._refused():
            names = list(csv.DictReader(self._lines(), strict=True).fieldnames or [])
            if names and _STEP not in names:
                raise ValueError(f"it has no column {_STEP}")
            return names

    def _rows(self) -> Iterator[dict[str, str]]:
        """The rows of the file, one after the other; an empty one in place of one not whole."""
        torn = []
        with self._refused():
            # strict: a quote that is never closed would take all later rows into its own
            for row in csv.DictReader(self._lines(torn.append), strict=True):
                whole = None not in row and None not in row.values()
                yield row if whole and row.get(_STEP, "").isdecimal() else {}
        yield from ({} for _ in torn)

    def _lines(self, torn: Callable[[bytes], None] = lambda line: None) -> Iterator[str]:
        """The whole lines; the others are told."""
        if not self._path.exists():
            return
        with open_regular(self._path) as file:
            for line in lines_of(file, _MAX_LINE):
                if line.endswith(b"\n"):
                    yield str(line, "utf-8", "replace")
                else:
                    torn(line)

    def _refused(self) -> contextlib.AbstractContextManager[None]:
        return refused(lambda why: f"{self._path} cannot be read ({why}): move it away.")

    def _rewrite(self, rows: Iterable[Mapping[str, str]]) -> None:
        with replace_atomically(self._path) as file:
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
