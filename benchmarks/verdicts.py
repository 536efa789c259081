"""Whether the hypotheses of the digits' experiments hold: several seeds, paired, against controls.

    python -m benchmarks.verdicts runs/verdicts [--seeds=0,1,2]

Trains `digits_vp`, `digits_sp`, and from each `digits_vp` its fine-tuning with the second-order
loss, on every image and on every second one, beside two controls that go on with the first order:
as many steps, and as much processor time as on every image. Every run is an ordinary workdir in the
folder, so that a second call makes only what is missing. A difference is one of the means over the
test images, per seed; its error is that over seeds, and the interval is Student's.
"""

import statistics
from pathlib import Path
from typing import NamedTuple

from benchmarks.judged_runs import FIGURES, bits, interval, make, mean, parser, processor_seconds
from benchmarks.measuring import machine, markdown_table


class Run(NamedTuple):
    """An experiment with its settings, and the run of the same seed that it is compared with."""

    experiment: str
    against: str | None
    settings: tuple[str, ...] = ()


# On every image a second-order step takes 1.7 times the time by AdamW, and less by Muon: 850 of the
# first order for its 500.
RUNS = {
    "vp": Run("digits_vp", None),
    "sp": Run("digits_sp", "vp"),
    "finetuned": Run("digits_vp_finetune", "vp", ("train.objective.every=1",)),
    "second_image": Run("digits_vp_finetune", "finetuned"),
    "continued": Run("digits_vp_continued", "finetuned"),
    "continued_longer": Run("digits_vp_continued", "finetuned", ("train.num_steps=850",)),
}
_PRETRAINED = "vp"


def main() -> None:
    """Makes what is missing, then prints the table."""
    arguments = parser(__doc__, "runs", RUNS).parse_args()
    seeds, names = arguments.seeds, arguments.runs
    for seed in seeds:
        for name in names:
            make_run(arguments.folder, name, seed)
    print(f"{machine()}; seeds {', '.join(seeds)}\n")
    print(table(arguments.folder, names, seeds))


def make_run(folder: Path, name: str, seed: str) -> None:
    """Trains and judges one of `RUNS` under a seed, unless it is there."""
    run = RUNS[name]
    settings = (f"train.seed={seed}", "train.pictures_every=None", *run.settings)
    start = None if name in (_PRETRAINED, "sp") else folder / f"{_PRETRAINED}-{seed}"
    make(folder / f"{name}-{seed}", run.experiment, settings, start)


def table(folder: Path, names: list[str], seeds: list[str]) -> str:
    """Means over seeds, and differences from the run that each is compared with."""
    rows = []
    for name in names:
        against, cells = RUNS[name].against, []
        for figure in FIGURES:
            values = [mean(bits(folder / f"{name}-{seed}", figure)) for seed in seeds]
            cells.append(f"{statistics.fmean(values):.4f}")
            if against is None:
                cells.append("")
                continue
            base = [mean(bits(folder / f"{against}-{seed}", figure)) for seed in seeds]
            cells.append(difference([a - b for a, b in zip(values, base, strict=True)]))
        seconds = statistics.fmean(processor_seconds(folder / f"{name}-{seed}") for seed in seeds)
        rows.append((name, against or "", *cells, f"{seconds:.0f}"))
    header = ("run", "less", "ODE", "difference", "bound", "difference", "processor seconds")
    return markdown_table(header, rows)


def difference(values: list[float]) -> str:
    """The mean, its standard error over seeds, and the interval of 95 %."""
    if len(values) < 2:
        return f"{values[0]:+.4f}"
    found, error, half = interval(values)
    return f"{found:+.4f} ± {error:.4f} ({found - half:+.4f} to {found + half:+.4f})"


if __name__ == "__main__":
    main()
