"""Keeps docs/doors and tests/strangers one: `python docs/doors.py` rewrites what differs.

The ```python block of a door's page is the stranger's file that the tests take through that door,
under the name that a reader gives it; the table of index.md counts those files.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES, STRANGERS = ROOT / "docs" / "doors", ROOT / "tests" / "strangers"
DOORS = (
    "network",
    "objective",
    "weighting",
    "optimizer",
    "learning_rate",
    "schedule",
    "path",
    "parameterization",
    "time_sampler",
    "dequantization",
    "solver",
    "data_npz",
    "data_folder",
    "metric_writer",
    "task",
)
_BLOCK = re.compile(r"```python\n.*?```\n", re.DOTALL)
_TABLE = re.compile(r"\| door \|.*?\n\n", re.DOTALL)
_PRODUCT = ("data", "diffusion_ode", "experiments", "launch")


def files() -> dict[Path, str]:
    """What the pages must hold, by path."""
    pages = {PAGES / f"{door}.md": _page(door) for door in DOORS}
    index = PAGES / "index.md"
    pages[index] = _TABLE.sub(lambda _: _table() + "\n", index.read_text(), count=1)
    return pages


def lines(door: str) -> int:
    """Lines of a stranger's file that are not blank."""
    return sum(bool(line.strip()) for line in _stranger(door).read_text().splitlines())


def edits() -> list[Path]:
    """Files of the program that know of a stranger."""
    every = (path for package in _PRODUCT for path in (ROOT / package).rglob("*.py"))
    return [path for path in every if "strangers" in path.read_text()]


def title(door: str) -> str:
    """The first line of its page."""
    return (PAGES / f"{door}.md").read_text().splitlines()[0].removeprefix("# ")


def _stranger(door: str) -> Path:
    return STRANGERS / f"{door}.py"


def _page(door: str) -> str:
    page = PAGES / f"{door}.md"
    code = _stranger(door).read_text().replace(f"tests.strangers.{door}", f"my_{door}")
    return _BLOCK.sub(lambda _: f"```python\n{code}```\n", page.read_text(), count=1)


def _table() -> str:
    rows = ["| door | files touched | lines written | edits in the program |", "|---|---|---|---|"]
    rows += [
        f"| [{title(door)}]({door}.md) | 1 | {lines(door)} | {len(edits())} |" for door in DOORS
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
