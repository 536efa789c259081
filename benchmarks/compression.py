"""Files of a data set's test images against the bounds that they should meet.

    python -m benchmarks.compression runs/digits_vp [--steps 25 50 100 200] [--images 297]

For every number of steps, by the measured losses and as ancestral sampling has them: the file, its
payload, the bound of the same draws, and how long the network and all else took; decoded again
where `--decode` names the steps. Points are kept in WORKDIR/benchmarks, and the figures of
docs/codec.md are drawn from them.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from benchmarks.measuring import machine, markdown_table
from data.prepare import prepare
from diffusion_ode import units
from diffusion_ode.coding import losses
from diffusion_ode.coding.chain import LatentChain
from diffusion_ode.coding.container import compress, decompress
from diffusion_ode.coding.settings import CodecSettings
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.inference.diffusion_model import DiffusionModel
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.reporting.picture_codes import picture_codes

_FIGURES = Path(__file__).resolve().parents[1] / "docs/figures"
_KINDS = {"measured": CodecSettings(), "ancestral": CodecSettings(ancestral=True, fineness=0.25)}
_TOGETHER = 64  # images of the bound's batches


def main() -> None:
    """Measures what has no points yet, prints two tables and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--decode", type=int, nargs="*", default=[100])
    parser.add_argument("--measured", action="store_true", help="no files of ancestral steps")
    parser.add_argument("--fineness", type=float, default=CodecSettings.fineness)
    parser.add_argument("--images", type=int)
    parser.add_argument("--points", type=Path, help="where they are kept; in the workdir")
    flags = parser.parse_args()
    model = DiffusionModel.load(flags.workdir)
    images = np.asarray(prepare(flags.data).test)[: flags.images]
    kept = flags.points or flags.workdir / "benchmarks" / f"compression-{len(images)}.json"
    kinds = {**_KINDS, "measured": CodecSettings(fineness=flags.fineness)}
    points = json.loads(kept.read_text()) if kept.exists() else {}
    kept.parent.mkdir(parents=True, exist_ok=True)
    if "bound" not in points:
        points["bound"] = _bound(model, images)
    for steps in flags.steps:
        for kind, settings in kinds.items():
            if settings.ancestral and flags.measured:
                continue
            if f"{steps} {kind}" not in points:
                some = dataclasses.replace(settings, steps=steps)
                point = _point(model, images, some, steps in flags.decode)
                points[f"{steps} {kind}"] = point
                print(f"{steps} {kind}: {point}", flush=True)
                kept.write_text(json.dumps(points, indent=1))
    print(f"\n{len(images)} test images, step {model.facts['step']}; {machine()}\n")
    _print_tables(points, len(images), picture_codes(images))
    _draw(points, len(images), _FIGURES / f"compression_{flags.data}.png")


def _bound(model: DiffusionModel, images: np.ndarray) -> list[float]:
    """In continuous time: bits per dimension, and the standard error."""
    nats: list[float] = []
    for first in range(0, len(images), _TOGETHER):
        some = images[first : first + _TOGETHER].astype(np.int32)
        keys = jax.random.split(jax.random.key(first), len(some))
        terms = VariationalBound().terms(
            model.model, model.parameters, jax.numpy.asarray(some), keys
        )
        nats.extend(np.asarray(terms.total))
    bits = units.bits_per_dimension(np.asarray(nats), model.model.pixels.dimensions)
    return [float(np.mean(bits)), float(standard_error(bits))]


def _point(model: DiffusionModel, images: np.ndarray, settings: CodecSettings, decode: bool):
    """The figures of one file; the network's time is that of all its calls, compiled before."""
    network = 0.0

    def timed(function):
        def call(*arguments):
            nonlocal network
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                network += time.perf_counter() - start

        return call

    compress(model.model, model.parameters, images, dataclasses.replace(settings, steps=2))
    with (
        mock.patch.object(LatentChain, "noise", timed(LatentChain.noise)),
        mock.patch.object(losses, "measured", timed(losses.measured)),
    ):
        start, processor = time.perf_counter(), time.process_time()
        file = compress(model.model, model.parameters, images, settings)
        seconds = time.perf_counter() - start
    point = {
        "file": 8 * len(file.data) / images.size,
        "payload": file.coded.net_bits / file.coded.coded / images[0].size,
        "bound": units.bits_per_dimension(file.coded.bound_nats / file.coded.coded, images[0].size),
        "header_bytes": len(file.data) - len(file.coded.payload),
        "first_images": len(images) - file.coded.coded,
        "seconds": seconds,
        "network_seconds": network,
        "processor_seconds": time.process_time() - processor,
    }
    if decode:
        start = time.perf_counter()
        decoded = decompress(model.model, model.parameters, file.data)
        assert np.array_equal(decoded, images), "decoded images differ"
        point["decoding_seconds"] = time.perf_counter() - start
    return point


def _print_tables(points: dict, images: int, pictures: dict[str, float]) -> None:
    bound, error = points["bound"]
    head = ["T", "kind", "file", "payload", "bound of its draws", "payload to it", "file to it"]
    head += ["file to the continuous bound", "processor's ms an image and step"]
    head += ["all but the network to it"]
    rows = []
    own = (name.split(" ", 1) for name in points if name != "bound")
    for steps, kind in sorted((int(steps), kind) for steps, kind in own):
        point = points[f"{steps} {kind}"]
        rest = point["seconds"] / point["network_seconds"] - 1.0
        rows.append(
            [
                steps,
                kind,
                *(f"{point[key]:.4f}" for key in ("file", "payload", "bound")),
                f"{point['payload'] / point['bound'] - 1.0:+.2%}",
                f"{point['file'] / point['bound'] - 1.0:+.2%}",
                f"{point['file'] / bound - 1.0:+.2%}",
                f"{1e3 * point['processor_seconds'] / images / steps:.2f}",
                f"{rest:.2f}",
            ]
        )
    print(markdown_table(head, rows))
    rows = [["the bound in continuous time", f"{bound:.4f} ± {error:.4f}"]]
    print()
    print(
        markdown_table(
            ["code", "bits per dimension"],
            rows + [[name, f"{bits:.4f}"] for name, bits in pictures.items()],
        )
    )


def _draw(points: dict, images: int, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(6, 3.8))
    ticks = sorted({int(name.split()[0]) for name in points if name != "bound"})
    for kind, colour in zip(_KINDS, ("tab:blue", "tab:orange"), strict=True):
        own = sorted((int(n.split()[0]), p) for n, p in points.items() if n.endswith(kind))
        if not own:
            continue
        steps = [number for number, _ in own]
        panel.plot(
            steps, [p["file"] for _, p in own], "o-", color=colour, label=f"file, {kind} steps"
        )
        panel.plot(
            steps, [p["bound"] for _, p in own], ":", color=colour, label="bound of its steps"
        )
    bound, error = points["bound"]
    panel.axhline(bound, color="black", lw=1, label="bound in continuous time")
    panel.axhspan(bound - error, bound + error, color="black", alpha=0.1)
    panel.set(xscale="log", xlabel="steps T", ylabel=f"bits/dim ({images} images)")
    panel.set_xticks(ticks, map(str, ticks))
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    print(f"written: {picture}")


if __name__ == "__main__":
    main()
