"""Networks, optimisers, rates and batches that might have won on photographs, each against ours.

    python -m benchmarks.trials runs/trials [--data=photos_16] [--budget=0.75] [--trials=summed,…]
        [--seeds=0]

Each is trained as in `benchmarks.race`, for its steps, and judged by the bound of the same test
images and validation images under the same noise. On other data only batches are tried, since the
rest are of sizes and rates for photographs. A trial that is finished is a file in the folder; the
table stands beside them.
"""

import json
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.judged_runs import parser
from benchmarks.measuring import machine, markdown_table
from benchmarks.race import DATA, Judged, Runner, average, keep_programs, race
from benchmarks.tried import schedule_free
from diffusion_ode.workdir.files import replace_atomically

TRIED = "benchmarks.tried."
UNET = f"model.network={TRIED}TriedUNet"
_RATE = "learning_rate=warmed_up_then_cosine(peak={peak:g})"


class Trial(NamedTuple):
    """What is set otherwise than in ours, and what is judged."""

    title: str
    settings: tuple[str, ...] = ()
    steps: float = 1.0  # of the budget
    judged: Judged = average


def _muon(peak: float) -> str:
    return f"train.optimizer=muon({_RATE.format(peak=peak)})"


def _soap(peak: float) -> str:
    return f"train.optimizer={TRIED}Soap({_RATE.format(peak=peak)})"


def _adamw(peak: float) -> str:
    return f"train.optimizer=adamw({_RATE.format(peak=peak)})"


def _schedule_free(peak: float) -> Trial:
    setting = f"train.optimizer={TRIED}ScheduleFree(learning_rate={peak:g})"
    return Trial(f"schedule-free AdamW at {peak:g}", (setting,), judged=schedule_free)


TRIALS = {
    "ours": Trial("ours"),
    "same": Trial("ours without dropout, as `TriedUNet`", (f"{UNET}()",)),
    "muon_5e-3": Trial("Muon at 5e-3", (_muon(5e-3),)),
    "muon_2e-2": Trial("Muon at 2e-2", (_muon(2e-2),)),
    "adamw_4e-3": Trial("AdamW at 4e-3", (_adamw(4e-3),)),
    "soap_3e-3": Trial("SOAP, one-sided, at 3e-3", (_soap(3e-3),)),
    "soap_6e-3": Trial("SOAP, one-sided, at 6e-3", (_soap(6e-3),)),
    "soap_1.2e-2": Trial("SOAP, one-sided, at 1.2e-2", (_soap(1.2e-2),)),
    "schedule_free_3e-3": _schedule_free(3e-3),
    "schedule_free_6e-3": _schedule_free(6e-3),
    "schedule_free_1.2e-2": _schedule_free(1.2e-2),
    "schedule_free_2.4e-2": _schedule_free(2.4e-2),
    "batch_8": Trial("batches of 8, four times the steps", ("train.batch_size=8",), steps=4.0),
    "batch_16": Trial("batches of 16, twice the steps", ("train.batch_size=16",), steps=2.0),
    "batch_64": Trial("batches of 64, half the steps", ("train.batch_size=64",), steps=0.5),
    "depthwise": Trial(
        "depthwise 5×5, four times wide within",
        (f"{UNET}(features=96, depthwise=5)",),
    ),
    "summed": Trial(
        "the same, the 5×5 as a sum", (f"{UNET}(features=96, depthwise=5, summed=True)",)
    ),
    "one_norm": Trial("one norm a block", (f"{UNET}(norms=1)",)),
    "start": Trial("blocks begin at 0.1, not zero", (f"{UNET}(start=0.1)",)),
    "no_attention": Trial("no attention", (f"{UNET}(attention=False)",)),
    "deep": Trial("32 wide, 8 blocks", ("model.network.features=32", "model.network.blocks=8")),
    "wide": Trial("96 wide, 1 block", ("model.network.features=96", "model.network.blocks=1")),
    "multi_scale": Trial(
        "multi-scale, two sizes, 64 wide",
        (
            "model.network=multi_scale_unet(features=64, multipliers=(1, 1), blocks=1,"
            " attention_at=(8,), head_width=32, fourier_exponents=(6, 7),"
            " fourier_damping=True)",
        ),
    ),
    "multi_scale_3": Trial(
        "multi-scale, three sizes, 64 to 128 wide",
        (
            "model.network=multi_scale_unet(features=64, multipliers=(1, 1, 2), blocks=1,"
            " attention_at=(4,), head_width=32, fourier_exponents=(6, 7),"
            " fourier_damping=True)",
        ),
    ),
    "one_variance": Trial(
        "scalar preconditioning", (f"model.base.covariance={TRIED}OneVariance()",)
    ),
    "adaptive": Trial("times drawn adaptively", ("train.objective.times=adaptive_times()",)),
    "uniform": Trial("times drawn uniformly", ("train.objective.times=uniform_times()",)),
}


_ANYWHERE = ("ours", "batch_8", "batch_16", "batch_64")


def main() -> None:
    """Makes what is missing, and the table anew after every trial."""
    taken = parser(__doc__, "trials", TRIALS)
    taken.set_defaults(seeds=["0"])
    taken.add_argument("--data", choices=tuple(DATA), default="photos_16")
    taken.add_argument("--budget", type=float, default=1.0, help="of the race's steps")
    arguments = taken.parse_args()
    if arguments.data != "photos_16":
        chosen = [each for each in arguments.trials if each in _ANYWHERE]
        known = ", ".join(_ANYWHERE)
        arguments.trials = chosen or taken.error(f"--data={arguments.data} has {known} only")
    keep_programs()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    data = DATA[arguments.data]
    data = data._replace(num_steps=round(data.num_steps * arguments.budget))
    name = f"{arguments.data}-{data.num_steps}"
    for seed in arguments.seeds:
        for each in arguments.trials:
            place = arguments.folder / f"{name}-{each}-{seed}.json"
            if not place.exists():
                trial = TRIALS[each]
                own = data._replace(num_steps=round(data.num_steps * trial.steps))
                runner = Runner(each, trial.settings)
                found = race(own, runner, int(seed), trial.judged, solves=False)
                with replace_atomically(place) as file:
                    json.dump(found, file)
            written = table(arguments.folder, name)
            (arguments.folder / f"{name}.md").write_text(written, encoding="utf-8")
    print(written)


def table(folder: Path, name: str) -> str:
    """A row for each trial: bounds at the marks, and the difference from ours, paired by image."""
    runs = {
        each: [
            (seed.stem.rpartition("-")[2], json.loads(seed.read_text()))
            for seed in sorted(folder.glob(f"{name}-{each}-*.json"))
        ]
        for each in TRIALS
    }
    ours = dict(runs["ours"])
    rows = []
    for each, found in runs.items():
        if not found:
            continue
        points = [run["points"] for _, run in found]
        bounds = [
            f"{statistics.fmean(statistics.fmean(run[place]['bound']) for run in points):.3f}"
            for place in (-3, -2, -1)
        ]
        seconds = statistics.fmean(run[-1]["seconds"] for run in points)
        less = [_less(run, ours[seed]) for seed, run in found if seed in ours and each != "ours"]
        validation = [run["validation"] for _, run in found]
        rows.append(
            (
                TRIALS[each].title,
                *bounds,
                f"{seconds:.0f}",
                "; ".join(less),
                f"{statistics.fmean(map(statistics.fmean, validation)):.3f}",
                f"{statistics.fmean(map(statistics.median, validation)):.3f}",
            )
        )
    header = ("", "¼", "½", "bound", "s", "less ours", "validation", "its median")
    return f"{name}; {machine()}\n\n{markdown_table(header, rows)}\n"


def _less(run: dict, ours: dict) -> str:
    of_images = np.subtract(run["points"][-1]["bound"], ours["points"][-1]["bound"])
    error = of_images.std(ddof=1) / len(of_images) ** 0.5
    return f"{of_images.mean():+.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
