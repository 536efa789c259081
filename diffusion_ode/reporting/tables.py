"""A table of results as a terminal, a README, a paper or another program reads it."""

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from diffusion_ode.errors import on_one_line, printable
from diffusion_ode.reporting.console import Screen

_LEAST_DIGITS, _MOST_DIGITS = 2, 6  # after the point
_LARGE = 1e5  # from here on with an exponent
_WITHOUT_ERROR = 4  # digits of a figure that has none
_WIDEST_TEXT, _GAP = 30, 3  # columns of a terminal
_LONGEST_EXACT = 1 << 14  # characters of a text for programs, such as a network's settings
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "…": r"\dots{}",
}


@dataclass(frozen=True)
class Quantity:
    """A mean, and how certain it is; shown with two digits of its error.

    Attributes:
      value: the mean.
      error: its standard error over images, where there is one.
      over_seeds: its standard error over seeds, where there are several.
      signed: a difference, whose plus sign is shown.
    """

    value: float
    error: float | None = None
    over_seeds: float | None = None
    signed: bool = False

    def words(self, plus_minus: str = "±") -> str:
        sign = "+" if self.signed else ""
        largest = max(abs(self.value), self.error or 0.0, self.over_seeds or 0.0)
        form = ".3g" if largest >= _LARGE else f".{_digits(self.error)}f"
        said = f"{self.value:{sign}{form}}"
        if self.error is not None:
            said += f" {plus_minus} {self.error:{form}}"
        if self.over_seeds is not None:
            said += f" ({plus_minus} {self.over_seeds:{form}})"
        return said


Cell = str | Quantity | None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Its texts, which may be from files that anybody has made, are shown on one line each, with an
    end, and with no codes for a terminal.

    Attributes:
      heading: for people.
      name: for programs.
      cells: of all rows; None where there is nothing.
      exact: the same for programs, where people read less.
      told_below: a cell that all rows share is told below the table, instead of a column.
    """

    heading: str
    name: str
    cells: Sequence[Cell]
    exact: Sequence[Cell] | None = None
    told_below: bool = False

    def __post_init__(self):
        object.__setattr__(self, "heading", on_one_line(self.heading))
        object.__setattr__(self, "name", on_one_line(self.name))
        object.__setattr__(self, "cells", _texts(self.cells, on_one_line))
        if self.exact is not None:
            exact = _texts(self.exact, lambda text: printable(text)[:_LONGEST_EXACT])
            object.__setattr__(self, "exact", exact)

    @property
    def numeric(self) -> bool:
        return any(isinstance(cell, Quantity) for cell in self.cells)

    @property
    def on_the_right(self) -> bool:
        """Where its cells stand: numbers on the right, text on the left."""
        return self.numeric or all(cell is None or _is_number(str(cell)) for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and notes on how they are to be read, shown as a column's texts."""

    columns: Sequence[Column]
    notes: Sequence[str] = ()

    def __post_init__(self):
        object.__setattr__(self, "notes", [on_one_line(note) for note in self.notes])

    def shown(self) -> "Table":
        """For people: without empty columns, and with what all rows share below it."""
        columns, shared = [], []
        for column in self.columns:
            different = set(column.cells)
            if different <= {None}:
                continue
            if column.told_below and len(different) == 1:
                shared.append(f"{column.heading} {column.cells[0]}")
            else:
                columns.append(column)
        notes = [f"all: {'; '.join(shared)}"] if shared else []
        return Table(columns, [*self.notes, *notes])


def terminal(table: Table) -> str:
    """In columns; what a screen has no room for goes on below, the first column beside it again."""
    screen, shown = Screen(), table.shown()
    with screen.capture() as text:
        for columns in _in_blocks(shown.columns, screen.width):
            drawn = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
            for column in columns:
                # A number is never broken; a long setting or name is.
                drawn.add_column(
                    column.heading,
                    justify="right" if column.on_the_right else "left",
                    no_wrap=column.numeric,
                    max_width=None if column.numeric else _WIDEST_TEXT,
                    overflow="fold",
                )
            for row in _rows(columns, Quantity.words):
                drawn.add_row(*row)
            screen.print(drawn)
            screen.print()
        for note in shown.notes:
            screen.print(note)
    return "\n".join(line.rstrip() for line in text.get().splitlines()) + "\n"


def _in_blocks(columns: Sequence[Column], width: int) -> list[list[Column]]:
    blocks: list[list[Column]] = [[]]
    taken = 0
    for column in columns:
        cells = [column.heading, *(row[0] for row in _rows([column], Quantity.words))]
        needed = max(map(len, cells)) + _GAP
        if not column.numeric:
            needed = min(needed, _WIDEST_TEXT + _GAP)
        if not blocks[0]:
            first = needed
        elif taken + needed - _GAP > width and len(blocks[-1]) > 1:
            blocks.append([columns[0]])
            taken = first
        blocks[-1].append(column)
        taken += needed
    return blocks


def markdown(table: Table) -> str:
    """As GitHub and MkDocs take it."""
    shown = table.shown()
    head = [
        [column.heading for column in shown.columns],
        ["---:" if column.on_the_right else "---" for column in shown.columns],
    ]
    rows = [
        [cell.replace("|", "\\|") for cell in row] for row in _rows(shown.columns, Quantity.words)
    ]
    lines = [f"| {' | '.join(row)} |" for row in [*head, *rows]]
    return "\n".join([*lines, *(f"\n{note}" for note in shown.notes)]) + "\n"


def latex(table: Table) -> str:
    """A `tabular` for the package booktabs; the notes are comments above it."""
    shown = table.shown()

    def quantity(cell: Quantity) -> str:
        words = re.sub(r"e\+?(-?)0*(\d+)", r"\\times 10^{\1\2}", cell.words(r"\pm"))
        return f"${words}$"

    rows = _rows(shown.columns, quantity, _escaped)
    sides = "".join("r" if column.on_the_right else "l" for column in shown.columns)
    return "\n".join(
        [
            *(f"% {note}" for note in shown.notes),
            f"\\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(_escaped(column.heading) for column in shown.columns) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def comma_separated(table: Table) -> str:
    """CSV with every column, numbers at full precision, and errors in columns of their own."""
    parts: dict[str, list[str | float | None]] = {}
    for column in table.columns:
        cells = column.exact or column.cells
        if not column.numeric:
            parts[column.name] = list(cells)  # pyright: ignore[reportArgumentType]
            continue
        for suffix, field in (("", "value"), ("_se", "error"), ("_se_over_seeds", "over_seeds")):
            values = [getattr(cell, field, None) for cell in cells]
            if not suffix or any(value is not None for value in values):
                parts[column.name + suffix] = values
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(parts)
    writer.writerows(zip(*parts.values(), strict=True))
    return text.getvalue()


FORMATS: dict[str, Callable[[Table], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "latex": latex,
    "csv": comma_separated,
}


def _rows(
    columns: Sequence[Column],
    quantity: Callable[[Quantity], str],
    text: Callable[[str], str] = str,
) -> list[list[str]]:
    def written(cell: Cell) -> str:
        if cell is None:
            return ""
        return quantity(cell) if isinstance(cell, Quantity) else text(cell)

    cells = [map(written, column.cells) for column in columns]
    return [list(row) for row in zip(*cells, strict=True)]


def _texts(cells: Sequence[Cell], shown: Callable[[str], str]) -> list[Cell]:
    return [c if c is None or isinstance(c, Quantity) else shown(c) for c in cells]


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _digits(error: float | None) -> int:
    """After the point, so that two digits of the error are shown."""
    if not error:
        return _WITHOUT_ERROR
    return min(max(1 - math.floor(math.log10(error)), _LEAST_DIGITS), _MOST_DIGITS)
