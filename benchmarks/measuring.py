"""Side by side: two things timed in turn in one process, so that noise strikes both alike."""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

import jax

Name = TypeVar("Name")


def medians(run: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """Median seconds of each, run in turn `rounds` times after one that does not count."""
    seconds: dict[Name, list[float]] = {name: [] for name in run}
    for number in range(rounds + 1):
        for name, function in run.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """What a figure was measured on, and when."""
    devices = jax.devices()
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        kind = f"{os.cpu_count()} cores of {_processor()}"
    else:
        kind = f"{len(devices)} × {kind}"
    return f"{kind}, jax {jax.__version__}, {date.today().isoformat()}"


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
        return names[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as a README shows it."""
    return "\n".join(map(markdown_row, [header, ["---"] * len(header), *rows]))


def markdown_row(cells: Sequence[object]) -> str:
    """One line of such a table, for those that take minutes a line."""
    return "| " + " | ".join(map(str, cells)) + " |"


def some_of(names: Collection[str]) -> Callable[[str], list[str]]:
    """A flag's type: names with commas between them, each of `names`."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := ", ".join(name for name in chosen if name not in names):
            raise argparse.ArgumentTypeError(f"no such: {unknown}; there are {', '.join(names)}")
        return chosen

    return read
