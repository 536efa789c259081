"""How much the loss varies under each way of drawing γ; writes `time_samplers.png` beside itself.

    python docs/figures/time_samplers.py [--workdir runs/digits_vp] [--batches 60]

Takes the averaged parameters of a training on digits; where the workdir has none, it trains one for
`--steps` steps first. The figure of docs/mathematics.md is of a training of 1300 steps. The loss is
the diffusion term of the bound, in bits per dimension.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from data.sources.digits import Digits  # noqa: E402
from diffusion_ode.diffusion.time_sampling import (  # noqa: E402
    AdaptiveTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.diffusion.uniforms import (  # noqa: E402
    IndependentUniforms,
    LowDiscrepancyUniforms,
)
from diffusion_ode.inference.diffusion_model import DiffusionModel  # noqa: E402
from diffusion_ode.objectives.flow_matching import FlowMatching  # noqa: E402
from diffusion_ode.units import bits_per_dimension  # noqa: E402

BATCH = 128
SAMPLERS = {
    "uniform": UniformTimes,
    "importance": ImportanceSampledTimes,
    "adaptive": AdaptiveTimes,
}
UNIFORMS = {"independent": IndependentUniforms(), "low discrepancy": LowDiscrepancyUniforms()}
COLOURS = {"uniform": "tab:gray", "importance": "tab:blue", "adaptive": "tab:orange"}


def main() -> None:
    """Trains if need be, measures, prints and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", type=Path, default=ROOT / "runs" / "digits_vp")
    parser.add_argument("--steps", type=int, default=300, help="of training, where there is none")
    parser.add_argument("--batches", type=int, default=60, help="of each sampler, to measure with")
    chosen = parser.parse_args()
    if not (chosen.workdir / "checkpoints").is_dir():
        train(chosen.workdir, chosen.steps)
    trained = DiffusionModel.load(chosen.workdir)
    images = Digits().load().test
    results = {
        (sampler, uniforms): measure(
            trained, images, kind(uniforms=UNIFORMS[uniforms]), chosen.batches
        )
        for sampler, kind in SAMPLERS.items()
        for uniforms in UNIFORMS
    }
    step = trained.facts.get("step")
    print(f"{chosen.workdir}, step {step}: diffusion term on the test images, bits per dimension")
    for (sampler, uniforms), (_, _, losses) in results.items():
        print(
            f"{sampler:<11} {uniforms:<16} mean {losses.mean():.4f}"
            f"  variance of an image {losses.var():.4f}"
            f"  standard deviation of a batch {losses.mean(axis=1).std(ddof=1):.4f}"
        )
    draw(trained.model.schedule, results, HERE / "time_samplers.png")


def train(workdir: Path, steps: int) -> None:
    """A short training, by the launcher."""
    options = [f"train.num_steps={steps}", f"train.checkpoint_every={steps}", "after_training=()"]
    command = [sys.executable, str(ROOT / "launch" / "run.py"), "--exp=digits_vp"]
    command += [f"--workdir={workdir}", *(f"--set={option}" for option in options)]
    subprocess.run(command, check=True, cwd=ROOT)


def measure(trained: DiffusionModel, images: np.ndarray, times, batches: int):
    """Times γ, density and loss [batches, BATCH]; adaptive samplers learn from as many before."""
    model, objective = trained.model, FlowMatching(times)

    @jax.jit
    def step(state, key):
        image_key, key = jax.random.split(key)
        chosen = jax.random.randint(image_key, (BATCH,), 0, len(images))
        batch = jnp.asarray(images, jnp.int32)[chosen]
        draws = objective.draw(model, batch, key, state)
        flag = jnp.zeros(BATCH)
        loss = objective.loss(model, trained.parameters, batch, flag, draws, None).loss
        state = times.update(state, model.schedule, draws.gamma, loss * draws.density)
        return state, (draws.gamma, draws.density, bits_per_dimension(loss, images[0].size))

    state, measured = times.init(), []
    learning = batches if isinstance(times, AdaptiveTimes) else 0
    for i, key in enumerate(jax.random.split(jax.random.key(0), learning + batches)):
        state, values = step(state, key)
        if i >= learning:
            measured.append([np.asarray(value) for value in values])
    return tuple(np.stack(values) for values in zip(*measured, strict=True))


def draw(schedule, results, path: Path) -> None:
    """Densities beside the ideal one, and the spread of a batch's loss."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    gamma, density, losses = (v.ravel() for v in results["uniform", "low discrepancy"])
    edges = np.linspace(schedule.gamma_0, schedule.gamma_1, 41)
    centres, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    place = np.clip(np.digitize(gamma, edges) - 1, 0, 39)
    count = np.maximum(np.bincount(place, minlength=40), 1)
    root = np.sqrt(np.bincount(place, (losses * density) ** 2, minlength=40) / count)
    left.fill_between(
        centres, root / (root.sum() * width), color="0.85", step="mid", label="least variance"
    )
    for sampler in SAMPLERS:
        gamma, density, _ = (v.ravel() for v in results[sampler, "low discrepancy"])
        order = np.argsort(gamma)
        left.plot(gamma[order], density[order], color=COLOURS[sampler], label=sampler)
    left.set(xlabel="γ", ylabel="density", title="Where the samplers look")
    left.legend(frameon=False)

    names = list(SAMPLERS)
    for offset, uniforms in zip((-0.2, 0.2), UNIFORMS, strict=True):
        spread = [results[name, uniforms][2].mean(axis=1).std(ddof=1) for name in names]
        bars = right.bar(np.arange(len(names)) + offset, spread, 0.38, label=f"{uniforms} u")
        right.bar_label(bars, fmt="%.3f", fontsize=8)
    right.set_xticks(
        range(len(names)),
        [f"{name}\nvariance {results[name, 'independent'][2].var():.2f}" for name in names],
    )
    right.set(
        ylabel="standard deviation, bits per dimension", title=f"The loss of a batch of {BATCH}"
    )
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
