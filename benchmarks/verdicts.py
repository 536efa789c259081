"""Whether the hypotheses of the digits' experiments hold: several seeds, paired, against controls.

    python -m benchmarks.verdicts runs/verdicts [--seeds=0,1,2]

Trains `digits_vp`, `digits_sp`, and from each `digits_vp` its fine-tuning with the second-order
loss beside two controls that go on with the first order: as many steps, and as much processor
time. Every run is an ordinary workdir in the folder, so that a second call makes only what is
missing. A difference is one of the means over the test images, per seed; its error is that over
seeds, and the interval is Student's.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from benchmarks.measuring import machine, markdown_table
from diffusion_ode.evaluation.evaluated import Evaluated, finished


class Run(NamedTuple):
    """An experiment with its settings, and the run of the same seed that it is compared with."""

    experiment: str
    against: str | None
    settings: tuple[str, ...] = ()


# The second-order step takes 1.7 times the time of the first-order one: 850 steps for its 500.
RUNS = {
    "vp": Run("digits_vp", None),
    "sp": Run("digits_sp", "vp"),
    "finetuned": Run("digits_vp_finetune", "vp"),
    "continued": Run("digits_vp_continued", "finetuned"),
    "continued_longer": Run("digits_vp_continued", "finetuned", ("train.num_steps=850",)),
}
FIGURES = ("ode", "bound")
_PRETRAINED = "vp"


def main() -> None:
    """Makes what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", default=",".join(RUNS), help=f"of {', '.join(RUNS)}")
    arguments = parser.parse_args()
    seeds, names = arguments.seeds.split(","), arguments.runs.split(",")
    for seed in seeds:
        for name in names:
            make(arguments.folder, name, seed)
    print(f"{machine()}; seeds {', '.join(seeds)}\n")
    print(table(arguments.folder, names, seeds))


def make(folder: Path, name: str, seed: str) -> None:
    """Trains and judges one run, unless it is there."""
    run, workdir = RUNS[name], folder / f"{name}-{seed}"
    if list(workdir.glob("evaluations/*/result.json")):
        return
    command = [sys.executable, "launch/run.py", f"--exp={run.experiment}", f"--workdir={workdir}"]
    settings = (f"train.seed={seed}", "train.pictures_every=None", *run.settings)
    command += [f"--set={setting}" for setting in settings]
    command += ["--set=after_training=('evaluate',)"]
    if name not in (_PRETRAINED, "sp"):
        command.append(f"--init_from={folder / f'{_PRETRAINED}-{seed}'}")
    before = os.times()
    subprocess.run(command, check=True)
    after = os.times()
    seconds = after.children_user - before.children_user
    (workdir / "processor_seconds.json").write_text(json.dumps(seconds))


def table(folder: Path, names: list[str], seeds: list[str]) -> str:
    """Means over seeds, and differences from the run that each is compared with."""
    rows = []
    for name in names:
        against, cells = RUNS[name].against, []
        for figure in FIGURES:
            values = [mean_bits(folder / f"{name}-{seed}", figure) for seed in seeds]
            cells.append(f"{statistics.fmean(values):.4f}")
            if against is None:
                cells.append("")
                continue
            base = [mean_bits(folder / f"{against}-{seed}", figure) for seed in seeds]
            cells.append(difference([a - b for a, b in zip(values, base, strict=True)]))
        rows.append((name, against or "", *cells))
    return markdown_table(("run", "less", "ODE", "difference", "bound", "difference"), rows)


def mean_bits(workdir: Path, figure: str) -> float:
    """The mean over the test images of the newest evaluation."""
    bits = Evaluated.read(finished(workdir)[0]).bits(figure)
    return statistics.fmean(value for value in bits.values() if not math.isnan(value))


def difference(values: list[float]) -> str:
    """The mean, its standard error over seeds, and the interval of 95 %."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+.4f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return f"{mean:+.4f} ± {error:.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


if __name__ == "__main__":
    main()
