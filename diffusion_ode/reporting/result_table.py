"""A table of results as plain aligned text."""

from collections.abc import Sequence

SCREEN_WIDTH = 80
GAP = "  "
_CUT = "…"
_NAMED = 4  # of five digits each, with a count, they fit beside a label


def result_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], width: int = SCREEN_WIDTH
) -> str:
    """Columns with a rule under the header; those that hold numbers only are right-aligned.

    The widest columns are cut where the table would be wider than `width`.

    Args:
        header: the columns' names.
        rows: cells; anything that is no text is shown by `str`.
        width: in characters.
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    room = width - len(GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    right = [any(column[1:]) and all(map(_is_number, column[1:])) for column in columns]

    def line(row: Sequence[str]) -> str:
        return GAP.join(map(_fitted, row, widths, right)).rstrip()

    rule = GAP.join("─" * w for w in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def with_error(value: float, standard_error: float, digits: int = 4) -> str:
    """A value and its standard error, e.g. `2.1470 ± 0.0121`."""
    return f"{value:.{digits}f} ± {standard_error:.{digits}f}"


def some_images(indices: Sequence[int]) -> str:
    """Names the first few images, and counts the others: `images 3, 7, 12, 40 and 5 more`."""
    few = ", ".join(map(str, indices[:_NAMED]))
    more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
    return f"image{'s' if len(indices) > 1 else ''} {few}{more}"


def _fitted(cell: str, width: int, right: bool) -> str:
    if len(cell) > width:
        cell = cell[: width - 1] + _CUT
    return cell.rjust(width) if right else cell.ljust(width)


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, perhaps with its error or unit, or stands for a missing one."""
    if cell in ("", "-", "–", "—"):
        return True
    try:
        float(cell.split()[0].rstrip("kM%"))
    except (ValueError, IndexError):
        return False
    return True
