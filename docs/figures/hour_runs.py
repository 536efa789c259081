"""Training curves and samples of finished trainings; writes `hour_runs.png` beside itself.

    python docs/figures/hour_runs.py runs/fashion_mnist_vp runs/photos_vp

Each workdir must hold `metrics.jsonl`, `config.json` and what `--task=sample` leaves.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from diffusion_ode.configs import documents  # noqa: E402
from diffusion_ode.reporting.image_grid import image_grid  # noqa: E402

_SHOWN = 16
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
        found = max((workdir / "samples").glob("*/samples.npz"), key=lambda p: p.stat().st_mtime)
        document = documents.read(workdir / "config.json")
        levels = int(str(documents.rendered_at(document, "model.pixels.levels")))
        # No more than there are pixels for: nearest neighbours would leave out gaps.
        grid = image_grid(np.load(found)["images"][:_SHOWN], levels)
        samples.imshow(grid, cmap="gray", interpolation="nearest")
        samples.set_axis_off()
        samples.set_title("samples, averaged parameters")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
