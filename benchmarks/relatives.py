"""The systems that the paper stands on at one budget: the same network, images, batches and steps.

    python -m benchmarks.relatives runs/relatives [--data=digits] [--seeds=0,1,2]

Trains and judges each system under every seed, and writes `DATA.md` into the folder. ScoreODE's
second and third order go on from a run of the first that has two thirds of the steps, and so does
a first order beside them, which differs from them in nothing but the order. Every run is an
ordinary workdir in the folder, so that a second call makes only what is missing. Differences
from i-DODE on the variance-preserving path are paired, image by image and seed by seed; their
intervals are Student's over the seeds' means, and over the images where there is one seed.
"""

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import fiddle as fdl

from benchmarks.judged_runs import (
    FIGURES,
    bits,
    interval,
    is_made,
    make,
    mean,
    parser,
    processor_seconds,
)
from benchmarks.measuring import machine, markdown_table
from experiments.flow_matching import flow_matching
from experiments.registry import experiment
from experiments.score_ode import high_order, score_ode
from experiments.vdm import by_pixel, vdm


class Data(NamedTuple):
    """Steps, and what a run of them on this data set sets besides."""

    num_steps: int
    settings: tuple[str, ...]


class System(NamedTuple):
    """What a row of the table is called, its experiment (DATA_…), and the run that it goes on from.

    Without `before` it takes all the steps; with it the last third.
    """

    title: str
    experiment: str
    before: str | None = None
    share: float = 1.0


# The optimiser that all of them are known to train with.
_ADAMW = "train.optimizer=adamw(learning_rate=warmed_up_then_cosine({}))".format
DATA = {
    "digits": Data(
        300,
        (
            _ADAMW("peak=4e-3, warmup_steps=150"),
            "model.network.blocks=1",
            "evaluate.num_images=100",
        ),
    ),
    # Without the Gaussian base of photos_16_vp: none of the systems that are compared has one.
    "photos_16": Data(
        200,
        (
            *(_ADAMW("peak=2e-3"), "model.base=None", "model.network.adds_input=True"),
            *("model.network.blocks=1", "model.network.features=32", "evaluate.num_images=48"),
        ),
    ),
}
_SHARED = (
    *("train.pictures_every=None", "train.validation_images=0", "train.log_every=10"),
    *("evaluate.error_images=0", "evaluate.bound.draws=16"),
)
SYSTEMS = {
    "vp": System("i-DODE, VP", "vp"),
    "sp": System("i-DODE, SP", "sp"),
    "vdm": System("VDM, learned schedule", "vdm"),
    "vdm_by_pixel": System("VDM, a schedule for each pixel", "vdm_by_pixel"),
    "flow_matching": System("Flow Matching", "flow_matching"),
    "score_ode_1": System("ScoreODE, first order", "score_ode_1"),
    "begun": System("", "score_ode_1", share=2 / 3),
    "gone_on": System("ScoreODE, first order in two parts", "score_ode_1", "begun", 1 / 3),
    "score_ode_2": System("ScoreODE, to the second", "score_ode_2", "begun", 1 / 3),
    "score_ode_3": System("ScoreODE, to the third", "score_ode_3", "begun", 1 / 3),
}
_BASE = "vp"
# Of the higher orders the first that went on from the same run.
_AGAINST = {"vdm_by_pixel": "vdm", "score_ode_2": "gone_on", "score_ode_3": "gone_on"}
# High enough that the last third counts, and annealed like the whole of the others.
_GOING_ON = "warmed_up_then_cosine(peak=2e-3, warmup_steps=10)"


@experiment(parent="photos_16_vp")
def photos_16_flow_matching(config: fdl.Config) -> fdl.Config:
    """As digits_flow_matching."""
    return flow_matching(config)


@experiment(parent="photos_16_vp")
def photos_16_vdm(config: fdl.Config) -> fdl.Config:
    """As digits_vdm."""
    return vdm(config, network=True)


@experiment(parent="photos_16_vdm")
def photos_16_vdm_by_pixel(config: fdl.Config) -> fdl.Config:
    """As digits_vdm_by_pixel."""
    return by_pixel(config)


@experiment(parent="photos_16_vp")
def photos_16_score_ode_1(config: fdl.Config) -> fdl.Config:
    """As digits_score_ode_1."""
    return score_ode(config)


@experiment(parent="photos_16_score_ode_1")
def photos_16_score_ode_2(config: fdl.Config) -> fdl.Config:
    """As digits_score_ode_2."""
    return high_order(config, 2, "photos_16_score_ode_1", 500, 32)


@experiment(parent="photos_16_score_ode_1")
def photos_16_score_ode_3(config: fdl.Config) -> fdl.Config:
    """As digits_score_ode_3."""
    return high_order(config, 3, "photos_16_score_ode_1", 500, 32)


def main() -> None:
    """Makes what is missing, and the table anew after every run."""
    taken = parser(__doc__, "systems", SYSTEMS)
    taken.add_argument("--data", choices=tuple(DATA), default="digits")
    arguments = taken.parse_args()
    seeds, names = arguments.seeds, arguments.systems
    for seed in seeds:
        for name in names:
            make_run(arguments.folder, arguments.data, name, seed)
            written = table(arguments.folder, arguments.data)
            (arguments.folder / f"{arguments.data}.md").write_text(written, encoding="utf-8")
    print(written)


def make_run(folder: Path, data: str, name: str, seed: str) -> None:
    """Trains and judges a system under a seed, unless it is there."""
    system = SYSTEMS[name]
    registered = f"{data}_{system.experiment}"
    here = registered in globals()
    steps = round(DATA[data].num_steps * system.share)
    settings = (f"train.seed={seed}", f"train.num_steps={steps}", *_SHARED, *DATA[data].settings)
    if system.experiment.startswith("score_ode"):
        settings += ("train.optimizer.clip_norm=1.0",)  # which `_ADAMW` has not
    start = None
    if system.before:
        start = folder / f"{data}-{system.before}-{seed}"
        settings += (f"train.optimizer.learning_rate={_GOING_ON}",)
    experiment = f"benchmarks.relatives:{registered}" if here else registered
    make(folder / f"{data}-{name}-{seed}", experiment, settings, start)


def table(folder: Path, data: str) -> str:
    """A row for each system of which there are runs, with those seeds of it that the base has."""
    rows, base_runs = [], _runs(folder, data, _BASE)
    for name, system in SYSTEMS.items():
        runs = _runs(folder, data, name)
        runs = {seed: workdir for seed, workdir in runs.items() if seed in base_runs}
        if not system.title or not runs:
            continue
        cells = []
        for figure in FIGURES:
            means = [mean(bits(workdir, figure)) for workdir in runs.values()]
            cells.append(f"{statistics.fmean(means):.3f}")
            cells.append("" if name == _BASE else difference(runs, base_runs, figure))
        spreads, paces, seconds = zip(*(_metrics(run) for run in runs.values()), strict=True)
        # The least: others use the processor, too, and later seeds find the programs compiled.
        costs = [f"{min(paces):.2f}", f"{min(seconds):.0f}"]
        cells += [f"{statistics.fmean(spreads):.2f}", *costs, str(len(runs))]
        rows.append((system.title, *cells))
    header = (
        "system",
        "ODE",
        "less VP's",
        "bound",
        "less VP's",
        "loss's variance over its mean²",
        "seconds a step",
    )
    head = f"{data}, {DATA[data].num_steps} steps; {machine()}\n\n"
    written = head + markdown_table((*header, "processor seconds", "seeds"), rows) + "\n"
    return written + _of_single_steps(folder, data)


def _of_single_steps(folder: Path, data: str) -> str:
    """What one step from a system to the next changes, against that system."""
    rows = []
    for name, other in _AGAINST.items():
        base = _runs(folder, data, other)
        runs = {seed: run for seed, run in _runs(folder, data, name).items() if seed in base}
        if runs:
            found = [difference(runs, base, figure) for figure in FIGURES]
            rows.append((SYSTEMS[name].title, SYSTEMS[other].title, *found, str(len(runs))))
    header = ("system", "less", "ODE", "bound", "seeds")
    return f"\n{markdown_table(header, rows)}\n" if rows else ""


def difference(ours: Mapping[str, Path], base: Mapping[str, Path], figure: str) -> str:
    """The paired difference of runs by seed, with its interval of 95 %."""
    values = []
    for seed, workdir in ours.items():
        one, other = bits(workdir, figure), bits(base[seed], figure)
        pairs = [one[i] - other[i] for i in one if i in other]
        values.append([pair for pair in pairs if not math.isnan(pair)])
    drawn = [statistics.fmean(each) for each in values] if len(values) > 1 else values[0]
    found, _, half = interval(drawn)
    return f"{found:+.3f} ({found - half:+.3f} to {found + half:+.3f})".replace("-", "−")


def _runs(folder: Path, data: str, name: str) -> dict[str, Path]:
    """The finished ones, by seed."""
    return {
        workdir.name.rpartition("-")[2]: workdir
        for workdir in sorted(folder.glob(f"{data}-{name}-*"))
        if is_made(workdir)
    }


def _metrics(workdir: Path) -> tuple[float, float, float]:
    """The variance of the loss over its squared mean, of the last lines; the least seconds a step.

    Processor seconds are of all: training, compiling, judging.
    """
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [{k.removeprefix("train/"): v for k, v in line.items()} for line in lines]
    bit = math.log(2.0)
    spread = [
        line["loss_variance"] / (line.get("weighted_loss", line["bpd"] * bit) / bit) ** 2
        for line in lines[-5:]
    ]
    batch = json.loads((workdir / "config.json").read_text())
    size = batch["arguments"]["train"]["arguments"]["batch_size"]
    pace = size / max(line["images_per_second"] for line in lines)
    return statistics.fmean(spread), pace, processor_seconds(workdir)


if __name__ == "__main__":
    main()
