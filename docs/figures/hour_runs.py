"""Training curves and samples of finished trainings; writes `hour_runs.png` beside itself.

    python docs/figures/hour_runs.py runs/fashion_mnist_vp runs/photos_vp

Each workdir must hold `metrics.jsonl` and the picture that `--task=sample` leaves.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

PICTURE = Path(__file__).resolve().with_suffix(".png")


def main(workdirs: list[Path]) -> None:
    """Draws one row for each training."""
    figure, rows = plt.subplots(len(workdirs), 2, figsize=(8, 3.4 * len(workdirs)), squeeze=False)
    for (curve, samples), workdir in zip(rows, workdirs, strict=True):
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        logged = [row for row in map(json.loads, lines) if "train/bpd" in row]
        steps = [row["step"] for row in logged]
        curve.plot(steps, [row["train/bpd"] for row in logged], lw=1.2)
        curve.set_title(workdir.name)
        curve.set_xlabel("step")
        curve.set_ylabel("training loss, bits/dim")
        curve.grid(alpha=0.3)
        grids = sorted((workdir / "samples").glob("*/grid.png"), key=lambda p: int(p.parent.name))
        samples.imshow(plt.imread(grids[-1]), cmap="gray", interpolation="nearest")
        samples.set_axis_off()
        samples.set_title("samples, averaged parameters")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
