"""A run at a glance, for the README; writes `front_page.png` beside itself.

    python docs/figures/front_page.py runs/digits_vp

Test images, samples and the curve of bits per dimension of a run that was evaluated and sampled;
codes without a network, of `python -m benchmarks.digits_baselines`, are drawn as lines.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from diffusion_ode.configs import construction, documents  # noqa: E402

PICTURE = Path(__file__).resolve().with_suffix(".png")
BASELINES = {"histogram for each pixel": 2.364, "extra-trees": 1.954}
ROWS, COLUMNS = 7, 8
GAP = 1  # pixels between images
_LAYOUT = ConstrainedLayoutEngine(wspace=0.08)
INK, PALE = "#20639b", "#888888"


def main(workdir: Path) -> None:
    """Draws the three panels."""
    config = documents.read(workdir / "config.json")["arguments"]
    test = construction.build(config["data"]).load().test
    drawn = np.load(_newest(workdir.glob("samples/*/samples.npz")))["images"]
    figure, (real, samples, curve) = plt.subplots(
        1, 3, figsize=(10, 3.1), layout=_LAYOUT, width_ratios=(1, 1, 1.25)
    )
    for axes, images, title in (
        (real, test, "test images"),
        (samples, drawn, "samples of the model"),
    ):
        axes.imshow(_grid(images[: ROWS * COLUMNS]), cmap="gray_r", interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    _draw_curve(curve, workdir)
    figure.savefig(PICTURE, dpi=130)


def _grid(images: np.ndarray) -> np.ndarray:
    """Images [n, h, w, 1] in rows; paper, as wide as GAP, between them."""
    padded = np.pad(images[..., 0], ((0, 0), (GAP, GAP), (GAP, GAP)))
    _, height, width = padded.shape
    return (
        padded.reshape(ROWS, COLUMNS, height, width)
        .swapaxes(1, 2)
        .reshape(ROWS * height, COLUMNS * width)
    )


def _draw_curve(axes: plt.Axes, workdir: Path) -> None:
    """The training's loss, and what the test images take in the end."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    logged = [(line["step"], line["train/bpd"]) for line in lines if "train/bpd" in line]
    steps, loss = np.array(logged).T
    result = json.loads(_newest(workdir.glob("evaluations/*/result.json")).read_text())
    last = result["checkpoint"]["step"]
    axes.plot(steps, loss, color=INK, lw=1.3, label="training loss")
    for (kind, name), marker in zip(
        {"ode": "test, ODE", "bound": "test, bound"}.items(), "os", strict=True
    ):
        bpd, error = result[kind]["bpd"], result[kind]["standard_error"]
        label = f"{name}: {bpd:.3f} ± {error:.3f}"
        axes.errorbar(
            [last], [bpd], [error], color=INK, marker=marker, mfc="white", label=label, ls=""
        )
    for name, bpd in BASELINES.items():
        axes.axhline(bpd, color=PALE, lw=1, ls=":")
        axes.annotate(
            name,
            (1, bpd),
            (-2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color=PALE,
            fontsize=8,
        )
    axes.set(xlabel="step", ylim=(1.7, 3.2), title="bits per dimension")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _newest(paths) -> Path:
    return max(paths, key=lambda path: path.stat().st_mtime)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
