"""The variance of the loss on digits: learned schedules beside fixed ones and other times.

python -m benchmarks.learned_schedule --folder runs/learned_schedule [--steps 1000] [--seeds 3]

Each is digits_vp, of a small network, with other times, trained where its run has not ended, under
every seed; then the figure, with the seeds' range as a band, and the table are written into the
folder.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from launch.run import main as launch

SMALL = (
    *("model.network.features=32", "model.network.blocks=1"),
    "train.optimizer=adamw(learning_rate=warmed_up_then_cosine(peak=4e-3, warmup_steps=150))",
)
UNIFORM = "train.objective.times=uniform_times()"
CASES = {
    "linear": (UNIFORM,),
    "cosine": (UNIFORM, "model.schedule=cosine_schedule(gamma_0=-7.876)"),
    "importance": (),
    "adaptive": ("train.objective.times=adaptive_times()",),
    "learned": (
        UNIFORM,
        "model.schedule=learned_monotone_schedule(gamma_0=-7.876, learn_ends=False)",
    ),
    "learned, plain gradient": (
        UNIFORM,
        "model.schedule=learned_monotone_schedule(gamma_0=-7.876, learn_ends=False,"
        " by_variance=False)",
    ),
}


def curve(folder: Path, name: str, steps: int, seed: int) -> np.ndarray:
    """Steps and the mean variance since the log before, in squared bits per dimension [n, 2]."""
    workdir = folder / f"{name.replace(', ', '_').replace(' ', '_')}-{seed}"
    settings = (*CASES[name], f"train.num_steps={steps}", f"train.seed={seed}")
    settings += ("train.validation_images=0", "train.pictures_every=None", "after_training=()")
    settings = (*settings, *SMALL)
    if launch(["--exp=digits_vp", f"--workdir={workdir}", *(f"--set={s}" for s in settings)]):
        raise SystemExit(f"{name} did not train: {workdir / 'log.txt'}")
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return np.asarray([(row["step"], row["train/loss_variance"]) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[np.ndarray]] = {name: [] for name in CASES}
    for seed in range(arguments.seeds):
        for name, found in curves.items():
            found.append(curve(arguments.folder, name, arguments.steps, seed))
    figure, axes = plt.subplots(figsize=(7.5, 3.5), layout="constrained")
    table = "| times | variance of the loss at the end, (bits per dimension)² | of the seeds |\n"
    table += "|---|---|---|\n"
    for name, found in curves.items():
        # Where the plain gradient changes nothing, its curve lies on the linear one's.
        steps, variance = np.moveaxis(np.asarray(found), 2, 0)
        style = "--" if "plain" in name else "-"
        (line,) = axes.plot(steps[0], variance.mean(axis=0), style, label=name)
        band = variance.min(axis=0), variance.max(axis=0)
        axes.fill_between(steps[0], *band, color=line.get_color(), alpha=0.2)
        ends = variance[:, variance.shape[1] * 3 // 4 :].mean(axis=1)  # a quarter of the training
        table += f"| {name} | {ends.mean():.3f} | {', '.join(f'{end:.2f}' for end in ends)} |\n"
    axes.set(xlabel="step", ylabel="variance of the loss, (bits per dimension)²", yscale="log")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(arguments.folder / "learned_schedule.png", dpi=150)
    (arguments.folder / "learned_schedule.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
