"""The table of an evaluation: one row per example, filled pass by pass, and gone on with."""

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import read_regular, refused
from diffusion_ode.workdir.files import replace_atomically

Columns = Mapping[str, np.ndarray]
"""A table by column, in order of `index`: int64 [n] for it, float64 [n] for the others."""

# All of ImageNet takes two lines an image until they are joined, and 300 MB.
MAX_BYTES, MAX_LINES, MAX_CELLS, MAX_HEADER = 1 << 29, 3_000_000, 1 << 25, 1 << 12
_MOST = 2.0**53  # of an index: below, floats are exact
_INDEX = "index"  # the example's position in its split


class PerExampleTable:
    """A table whose rows several passes fill, each its own columns. A context.

    In memory, and with a path also in a csv, which always holds all that was found. What a pass has
    found of an example is a line of its own, with the other passes' columns left blank, until
    `join` makes one line of an example's lines. Numbers are written so that they read back to the
    same float. After a kill, half a line at the end is dropped.

    Args:
      columns: the names after `index`.
      path: of the csv; made if it does not exist.

    Raises:
      UserError: the file has other columns or a line that cannot be read.
    """

    def __init__(self, columns: Sequence[str], path: Path | None = None):
        self.columns = tuple(columns)
        self._cells: dict[int, dict[str, float]] = {}
        self._file = None
        self._path = path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with refused(lambda why: _no_table(path, why)):
            _drop_half_a_line(path, self.columns)
            for index, cells in _lines(path, self.columns) if path.exists() else ():
                self._add(index, cells)
        self._file = path.open("a", newline="")
        # Some file systems do not count names.
        self._linked = os.fstat(self._file.fileno()).st_nlink > 0
        if self._file.tell() == 0:
            self._write(self._file, [(_INDEX, *self.columns)])

    @classmethod
    def of_all(cls, columns: Sequence[str], path: Path) -> "PerExampleTable":
        """Together: the leader's is in the file; the other processes' grow alike."""
        files = []

        def opened() -> list[tuple[int, dict[str, float]]]:
            files.append(cls(columns, path))
            return list(files[0]._cells.items())

        found = processes.by_leader(opened)
        if files:
            return files[0]
        table = cls(columns)
        table._cells.update((int(index), cells) for index, cells in found)
        return table

    def __enter__(self) -> "PerExampleTable":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def missing(self, columns: Iterable[str], count: int) -> list[int]:
        """Which of the first `count` examples lack something in these columns."""
        wanted = set(columns)
        return [i for i in range(count) if not wanted <= self._cells.get(i, {}).keys()]

    def append(self, index: int, **cells: float) -> None:
        """What was found of an example; also on disk (but for a power failure) afterwards.

        Raises:
          ValueError: there is no such column, or it is filled already.
          UserError: somebody has removed the file.
        """
        cells = {name: float(value) for name, value in cells.items()}
        self._add(int(index), cells)
        if self._file is not None:
            if self._linked and not os.fstat(self._file.fileno()).st_nlink:
                raise UserError(
                    f"{self._path} has been removed meanwhile: run the same command again."
                )
            self._write(self._file, [self._line(int(index), cells)])

    def columns_of(self, count: int) -> Columns:
        """The first `count` examples as far as there is anything of them; what is blank is NaN."""
        order = sorted(index for index in self._cells if index < count)
        table = {
            name: np.asarray([self._cells[i].get(name, math.nan) for i in order], np.float64)
            for name in self.columns
        }
        return {_INDEX: np.asarray(order, np.int64), **table}

    def join(self) -> None:
        """From now on the file has one line for each example, in the order in which they came."""
        if self._path is None or self._file is None:
            return
        self._file.close()
        with replace_atomically(self._path) as file:
            lines = (self._line(index, cells) for index, cells in self._cells.items())
            self._write(file, [(_INDEX, *self.columns), *lines])
        self._file = self._path.open("a", newline="")

    def _add(self, index: int, cells: Mapping[str, float]) -> None:
        row = self._cells.setdefault(index, {})
        if not cells.keys() <= set(self.columns) - row.keys():
            raise ValueError(f"example {index} has {list(row)} and is given {list(cells)}")
        row.update(cells)

    def _line(self, index: int, cells: Mapping[str, float]) -> list[str]:
        return [str(index), *(_shortest(cells.get(name)) for name in self.columns)]

    @staticmethod
    def _write(file, lines: Iterable[Sequence[str]]) -> None:
        csv.writer(file, lineterminator="\n").writerows(lines)
        file.flush()


def read_table(path: Path) -> Columns:
    """The finished table in a file, with whichever columns it has.

    Raises:
      UserError: there is no such file, or it is not such a table.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: run --task=evaluate first.")
    with refused(lambda why: _no_table(path, why)):
        content = _content(path)
        header = str(content[:MAX_HEADER].partition(b"\n")[0], "utf-8", "replace").split(",")
        table = PerExampleTable(header[1:])
        if (found := _joined(content, table.columns)) is not None:
            return found
        del content
        for index, cells in _lines(path, table.columns):
            table._add(index, cells)
        return table.columns_of(max(table._cells, default=-1) + 1)


def _no_table(path: Path, why: str) -> str:
    return f"{path} is no table of an evaluation ({why}): move the file away, and evaluate again."


def _content(path: Path) -> bytes:
    content = read_regular(path, MAX_BYTES)
    if content.count(b"\n") > MAX_LINES:
        raise ValueError(f"it has more than {MAX_LINES} lines")
    if content.count(b",") > MAX_CELLS:
        raise ValueError(f"it has more than {MAX_CELLS} cells")
    if content.find(b"\n", 0, MAX_HEADER) < 0 and len(content) >= MAX_HEADER:
        raise ValueError(f"its first line has {MAX_HEADER} bytes or more")
    return content


def _joined(content: bytes, columns: Sequence[str]) -> Columns | None:
    """The table of a file that has one line for each example, at once; None of any other."""
    body = content.partition(b"\n")[2]
    for _ in range(2):  # of three commas the first run replaces one pair
        body = body.replace(b",,", b",nan,")
    body = body.replace(b",\n", b",nan\n")
    if not body.strip() or body.count(b",") != body.count(b"\n") * len(columns):
        return None
    try:
        cells = np.loadtxt(io.BytesIO(body), delimiter=",", comments=None, ndmin=2)
    except ValueError:
        return None  # said line by line
    index = cells[:, 0]
    whole = (index >= 0) & (index < _MOST) & (index % 1 == 0)
    if len(index) != body.count(b"\n") or not whole.all() or len(np.unique(index)) != len(index):
        return None
    cells = cells[np.argsort(index)].T
    named = dict(zip(columns, cells[1:], strict=True))
    return {_INDEX: cells[0].astype(np.int64), **named}


def _drop_half_a_line(path: Path, columns: Sequence[str]) -> None:
    """Of a table with these columns; any other file is left as it is.

    Raises:
      UserError: it is a link, or a file whose first line is no part of their names.
    """
    if path.is_symlink():
        raise UserError(f"{path} is a link, which is not followed: remove it.")
    content = _content(path) if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    header = f"{_header(columns)}\n".encode()
    if not (content if whole else header).startswith(header if whole else content):
        raise _other_columns(path, str(content[:MAX_HEADER], "utf-8", "replace"), columns)
    if whole != len(content):
        os.truncate(path, whole)


def _header(columns: Sequence[str]) -> str:
    return ",".join((_INDEX, *columns))


def _other_columns(path: Path, content: str, columns: Sequence[str]) -> UserError:
    return UserError(
        f"{path} has the columns {content.partition(chr(10))[0]!r}, but this evaluation writes"
        f" {_header(columns)!r}: move the file away, or evaluate as it was begun."
    )


def _lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, float]]]:
    """What each line says of an example."""
    lines = str(_content(path), "utf-8", "replace").removesuffix("\n").split("\n")
    if lines != [""] and lines[0] != _header(columns):
        raise _other_columns(path, lines[0], columns)
    for number, line in enumerate(lines[1:], start=2):
        try:
            index, *cells = line.split(",", len(columns) + 1)
            if not (index.isascii() and index.isdecimal()):
                raise ValueError
            named = zip(columns, cells, strict=True)
            yield int(index), {name: float(cell) for name, cell in named if cell}
        except ValueError:
            raise UserError(
                f"Line {number} of {path} is {line[:60]!r} not a row of {len(columns) + 1}"
                " numbers: mend the line, or move the file away."
            ) from None


def _shortest(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
