"""Runs that a benchmark trains and judges by the launcher, each an ordinary workdir, made once."""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from benchmarks.measuring import some_of
from diffusion_ode.evaluation.evaluated import Evaluated, finished

FIGURES = ("ode", "bound")
_SECONDS = "processor_seconds.json"


def parser(description: str | None, what: str, names: Collection[str]) -> argparse.ArgumentParser:
    """Takes a folder of runs, the seeds, and which of `names` to make, by `--WHAT`."""
    taken = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    taken.add_argument("folder", type=Path)
    taken.add_argument("--seeds", type=lambda text: text.split(","), default=["0", "1", "2"])
    known = ", ".join(names)
    taken.add_argument(f"--{what}", type=some_of(names), default=[*names], help=f"of {known}")
    return taken


def is_made(workdir: Path) -> bool:
    """Whether the run was trained and judged to its end."""
    return (workdir / _SECONDS).exists()


def make(
    workdir: Path, experiment: str, settings: Sequence[str], init_from: Path | None = None
) -> None:
    """Trains and judges a run, unless it is there."""
    if is_made(workdir):
        return
    command = [sys.executable, "launch/run.py", f"--exp={experiment}", f"--workdir={workdir}"]
    command += [f"--set={setting}" for setting in (*settings, "after_training=('evaluate',)")]
    if init_from is not None:
        command.append(f"--init_from={init_from}")
    before = os.times()
    subprocess.run(command, check=True)
    seconds = os.times().children_user - before.children_user
    (workdir / _SECONDS).write_text(json.dumps(seconds))


def processor_seconds(workdir: Path) -> float:
    """Of all that `make` did: training, compiling, judging."""
    return json.loads((workdir / _SECONDS).read_text())


def bits(workdir: Path, figure: str) -> dict[int, float]:
    """Bits per dimension by image, of the newest evaluation."""
    return Evaluated.read(finished(workdir)[0]).bits(figure)


def mean(bits: dict[int, float]) -> float:
    """The mean over the images whose solves converged."""
    return statistics.fmean(value for value in bits.values() if not math.isnan(value))


class Interval(NamedTuple):
    """A mean of n values, its standard error, and half of Student's interval of 95 %."""

    mean: float
    error: float
    half: float


def interval(values: Sequence[float]) -> Interval:
    """The interval of two or more values."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Interval(statistics.fmean(values), error, half)
