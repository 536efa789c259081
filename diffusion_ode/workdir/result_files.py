"""Result files that are whole or absent, and a table that grows and can be gone on with."""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.files import replace_atomically


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    NumPy scalars and arrays become numbers and lists, paths become text.

    Raises:
        ValueError: a number is not finite, which JSON cannot say.
        TypeError: something is not JSON.
    """
    text = json.dumps(content, indent=2, allow_nan=False, default=_plain)
    with replace_atomically(path) as file:
        file.write(text + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} is not JSON")


class PerExampleRows:
    """A table with one row per example, in memory. A context.

    Args:
        columns: the names after `index`, the example's position in its split.
        rows: to begin with, as `rows` gives them.
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[float]] = ()):
        self.columns = ("index", *columns)
        self._rows = {int(index): [float(value) for value in values] for index, *values in rows}

    def __enter__(self) -> "PerExampleRows":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    @property
    def done(self) -> set[int]:
        """Indices of the examples that have a row."""
        return set(self._rows)

    def rows(self) -> list[list[float]]:
        """All rows, the index first, in the order in which they came."""
        return [[index, *values] for index, values in self._rows.items()]

    def append(self, index: Sequence[int], **columns: Sequence[float]) -> None:
        """Add rows, given by columns of one length.

        Raises:
            ValueError: the columns are not the table's, or an example has a row already.
        """
        if {"index", *columns} != set(self.columns):
            raise ValueError(f"columns are {sorted(columns)}, not {sorted(self.columns[1:])}")
        others = (columns[name] for name in self.columns[1:])
        for position, *values in zip(index, *others, strict=True):
            if int(position) in self._rows:
                raise ValueError(f"example {int(position)} has a row already")
            self._rows[int(position)] = [float(value) for value in values]

    def table(self) -> dict[str, np.ndarray]:
        """All rows by column, in order of `index`: int64 [n] for it, float64 [n] for the others."""
        order = sorted(self._rows)
        values = np.array([self._rows[k] for k in order]).reshape(-1, len(self.columns) - 1)
        table = {name: values[:, k] for k, name in enumerate(self.columns[1:])}
        return {"index": np.array(order, np.int64), **table}


class PerExampleFile(PerExampleRows):
    """A csv with one row per example, which grows batch by batch and can be gone on with.

    A context. The first column is `index`, the example's position in its split; the others are
    numbers, written so that they read back to the same float. After a kill the half line at the
    end is dropped, and `done` tells which examples need no second computation.

    Args:
        path: made if it does not exist.
        columns: the names after `index`.

    Raises:
        UserError: the file has other columns or a line that cannot be read.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        super().__init__(columns)
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows = self._take_over()
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if self._file.tell() == 0:
            self._writer.writerow(self.columns)
            self._file.flush()

    def __enter__(self) -> "PerExampleFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, index: Sequence[int], **columns: Sequence[float]) -> None:
        """Also on disk (but for a power failure) afterwards."""
        super().append(index, **columns)
        for position in map(int, index):
            self._writer.writerow([position, *map(_shortest, self._rows[position])])
        self._file.flush()

    def _take_over(self) -> dict[int, list[float]]:
        """Read what is there, dropping half a line at the end."""
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._path, len(whole))
        lines = whole.decode(errors="replace").splitlines()
        if lines and tuple(lines[0].split(",")) != self.columns:
            raise UserError(
                f"{self._path} has the columns {lines[0]}, but this evaluation writes "
                f"{','.join(self.columns)}: move the file away, or evaluate as it was begun."
            )
        return dict(self._parse(number, line) for number, line in enumerate(lines[1:], start=2))

    def _parse(self, number: int, line: str) -> tuple[int, list[float]]:
        try:
            index, *values = line.split(",")
            if len(values) != len(self.columns) - 1:
                raise ValueError
            return int(index), [float(value) for value in values]
        except ValueError:
            raise UserError(
                f"Line {number} of {self._path} is {line[:60]!r} and no row of "
                f"{len(self.columns)} numbers: mend the line, or move the file away."
            ) from None


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a finished `PerExampleFile`: int64 [n] for `index`, float64 [n] otherwise.

    Raises:
        UserError: there is no such file, or it is not such a table.
    """
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        values = np.asarray(rows, np.float64).reshape(-1, len(header))
        table = {name: values[:, k] for k, name in enumerate(header)}
        return {**table, "index": table["index"].astype(np.int64)}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run --task=evaluate first.") from None
    except (ValueError, KeyError) as failure:
        raise UserError(
            f"{path} is no table of results ({failure}): move it away and evaluate again."
        ) from None


def _shortest(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        UserError: there is no such file or it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the task that writes it first.") from None
    except ValueError as failure:
        raise UserError(f"{path} is no JSON ({failure}): restore or remove it.") from None
