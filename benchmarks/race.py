"""The likelihood that a budget buys: the recipe of the small experiments against the published one.

    python -m benchmarks.race runs/race [--data=digits] [--seeds=0,1,2] [--runners=ours,…]

Same data, network's size, batches, weighting of the loss and importance-sampled times; a step costs
nearly the same, so that all take as many, and the processor seconds of the steps alone, compiling
and judging left out, stand beside. `published` has the published learning rate (2e-4 after 100
steps), average (0.9999) and Fourier features (undamped); its `kindest` form, whose average warms
up, goes on for four times the steps, on photographs for ten. The others are ours without one part.
All are judged on the same test images under the same noise, by the averaged parameters. A run that
is finished is a file in the folder, so that a second call makes only what is missing; `DATA.md` is
the table.
"""

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.judged_runs import interval, mean, parser
from benchmarks.measuring import machine, markdown_table
from benchmarks.programs import experiment_of
from diffusion_ode import units
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.training.state import TrainState
from diffusion_ode.training.validation import HeldOutBound, spread
from diffusion_ode.typing import Parameters
from diffusion_ode.workdir.files import replace_atomically
from launch.compilation_cache import keep_compilations

RATE = ("train.optimizer=adamw(learning_rate=warmed_up())",)
ADAMW = ("train.optimizer=adamw(learning_rate=warmed_up_then_cosine(ADAMW))",)  # of `Data`
AVERAGE = ("train.average=exponential_average(decay=0.9999)",)
WARMED = ("train.average=exponential_average(decay=0.9999, warmup=True)",)
# The rough field of undamped features is solved as the published experiments are.
DAMPING = ("model.network.fourier_damping=False", "evaluate.ode.controller.unit_tolerance=1e-3")
BASE = ("model.base=None", "model.network.adds_input=True")


class Data(NamedTuple):
    """An experiment, the steps of its budget, and how many test images judge."""

    experiment: str
    num_steps: int
    bound_images: int
    ode_images: int
    adamw: str  # its best known rate, which falls as ours does
    patience: int = 4  # budgets that the kindest published recipe may take


class Runner(NamedTuple):
    """What is set otherwise than in our recipe, and whether it may take more than the budget."""

    title: str
    settings: tuple[str, ...] = ()
    goes_on: bool = False


DATA = {
    "digits": Data("digits_vp", 240, 100, 48, "peak=4e-3, warmup_steps=150"),
    "photos_16": Data("photos_16_vp", 400, 48, 24, "peak=2e-3", patience=10),
    "fashion_mnist": Data("fashion_mnist_vp", 200, 24, 12, "peak=2e-3"),
}
RUNNERS = {
    "ours": Runner("ours"),
    "kindest": Runner("published, average warmed", (*RATE, *WARMED, *DAMPING, *BASE), goes_on=True),
    "published": Runner("published", (*RATE, *AVERAGE, *DAMPING, *BASE)),
    "optimizer": Runner("ours by AdamW", ADAMW),
    "rate": Runner("ours by AdamW at the published rate", RATE),
    "average": Runner("ours with the published average", AVERAGE),
    "damping": Runner("ours with undamped features", DAMPING),
    "base": Runner("ours without a base", BASE),
    "before": Runner("ours by AdamW, without a base", (*ADAMW, *BASE)),
}
_OF_BASE = ("base", "before")
_WITHOUT_BASE = ("digits", "fashion_mnist")
_MARKS = (0.25, 0.5, 1, 2, 4, 10)  # of the budget
_DRAWS = 8


Judged = Callable[[TrainState], Parameters]


def average(state: TrainState) -> Parameters:
    return state.ema


def main() -> None:
    """Makes what is missing, and the table anew after every run."""
    taken = parser(__doc__, "runners", RUNNERS)
    taken.add_argument("--data", choices=tuple(DATA), default="digits")
    arguments = taken.parse_args()
    keep_programs()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.runners:
            if name in _OF_BASE and arguments.data in _WITHOUT_BASE:
                continue
            place = _place(arguments.folder, arguments.data, name, seed)
            if not place.exists():
                found = race(DATA[arguments.data], RUNNERS[name], int(seed))
                with replace_atomically(place) as file:
                    json.dump(found, file)
            written = table(arguments.folder, arguments.data)
            (arguments.folder / f"{arguments.data}.md").write_text(written, encoding="utf-8")
    print(written)


def keep_programs() -> None:
    """What is compiled is kept for the next process."""
    keep_compilations()  # JAX is imported already, and is told
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])


def race(
    data: Data, runner: Runner, seed: int, judged: Judged = average, solves: bool = True
) -> dict[str, Any]:
    """Trains in this process, and judges at every mark.

    Args:
      data, runner, seed: what is trained.
      judged: the parameters, of a state.
      solves: also judge by the ODE at the end.
    """
    steps = data.num_steps * (data.patience if runner.goes_on else 1)
    settings = (f"train.seed={seed}", f"train.num_steps={steps}", *runner.settings)
    settings = tuple(each.replace("(ADAMW)", f"({data.adamw})") for each in settings)
    experiment = experiment_of(data.experiment, settings)
    program, images = experiment.train.program(experiment), experiment.data.load()
    batches = iter(experiment.data.train_batches(images, batch_size=program.batch_size, seed=seed))

    def judge(held_out: np.ndarray) -> HeldOutBound:
        # The noise is the same for all seeds and runners: what differs is the training.
        bound = VariationalBound(draws=_DRAWS)
        return HeldOutBound(program.model, program.placement, held_out, bound, seed=0)

    bound = judge(np.asarray(images.test[: data.bound_images]))
    validation = judge(spread(images.split("validation"), data.bound_images))
    step, state = program.compile_step(), program.fresh_state(images.train)
    marks = {round(mark * data.num_steps) for mark in _marks(data)}
    seconds, points, begun = 0.0, [], os.times().user
    for number in range(1, steps + 1):
        state, _ = step(state, program.place(next(batches)))
        if number in marks:
            jax.block_until_ready(state)
            seconds += os.times().user - begun
            bits = bound(judged(state)).tolist()
            points.append({"step": number, "seconds": seconds, "bound": bits})
            print(
                runner.title, seed, number, f"{seconds:.0f} s", f"{np.mean(bits):.4f}", flush=True
            )
            begun = os.times().user
    found = {"points": points, "validation": validation(judged(state)).tolist()}
    if not solves:
        return found
    ode, evaluations = _ode(experiment, judged(state), images.test[: data.ode_images])
    return found | {"ode": ode, "evaluations": evaluations}


def _ode(experiment: Any, parameters: Parameters, images: np.ndarray) -> tuple[dict, float]:
    """Bits per dimension by image, and the mean number of evaluations."""
    dimensions = experiment.model.pixels.dimensions
    model = experiment.model.bound(parameters)
    solve = experiment.evaluate.ode.of_images
    found = list(solve(model, parameters, enumerate(images), jax.random.key(0)))
    bits = {
        each.index: units.bits_per_dimension(-each.log_likelihood, dimensions) for each in found
    }
    return bits, statistics.fmean(each.nfe for each in found)


def table(folder: Path, data: str) -> str:
    """A row for each runner: the bound at every mark, and the ODE's figure at its end."""
    rows, budget, marks = [], DATA[data].num_steps, _marks(DATA[data])
    ours = _found(folder, data, "ours")
    for name, runner in RUNNERS.items():
        found = _found(folder, data, name)
        if not found:
            continue
        cells: list[str] = []
        for mark in marks:
            reached = [_at(run, round(mark * budget)) for run in found.values()]
            at = [point for point in reached if point is not None]
            if len(at) < len(reached):
                cells.append("")
                continue
            bits = statistics.fmean(statistics.fmean(point["bound"]) for point in at)
            seconds = statistics.fmean(point["seconds"] for point in at)
            cells.append(f"{bits:.3f} ({seconds:.0f} s)")
        shared = [seed for seed in found if seed in ours]
        less = ""
        if name != "ours" and shared:
            less = _difference([_end(found[seed]) - _end(ours[seed]) for seed in shared])
        ode = statistics.fmean(mean(run["ode"]) for run in found.values())
        evaluations = statistics.fmean(run["evaluations"] for run in found.values())
        validation = statistics.fmean(statistics.fmean(run["validation"]) for run in found.values())
        rest = (f"{validation:.3f}", f"{ode:.3f} ({evaluations:.0f})", len(found))
        rows.append((runner.title, *cells, less, *rest))
    bounds = [f"bound after {round(mark * budget)} steps" for mark in marks]
    header = ("", *bounds, "its end less ours", "validation", "ODE (evaluations)", "seeds")
    return f"{data}; {machine()}\n\n{markdown_table(header, rows)}\n"


def _difference(values: list[float]) -> str:
    """Over seeds, with the interval of 95 %."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    found, _, half = interval(values)
    return f"{found:+.3f} ({found - half:+.3f} to {found + half:+.3f})"


def _marks(data: Data) -> list[float]:
    return [mark for mark in _MARKS if mark <= data.patience]


def _place(folder: Path, data: str, name: str, seed: str) -> Path:
    return folder / f"{data}-{name}-{seed}.json"


def _found(folder: Path, data: str, name: str) -> dict[str, dict]:
    """The finished runs, by seed."""
    places = sorted(folder.glob(f"{data}-{name}-*.json"))
    return {place.stem.rpartition("-")[2]: json.loads(place.read_text()) for place in places}


def _at(run: dict, step: int) -> dict[str, Any] | None:
    return next((point for point in run["points"] if point["step"] == step), None)


def _end(run: dict) -> float:
    return statistics.fmean(run["points"][-1]["bound"])


if __name__ == "__main__":
    main()
