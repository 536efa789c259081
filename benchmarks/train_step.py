"""What a training step costs beside the bare forward and backward pass of the same network.

    python -m benchmarks.train_step [--exp=digits_vp] [--rounds=20] [--set PATH=VALUE …]

Prints a markdown table of medians of runs in turn, each as a ratio to its baseline, with the bytes
that the compiled step needs beside its arguments:

- the experiment's training step against the gradient of the network's squared output on the same
  batch, with the same dropout;
- what of it is not the network: times, noise, optimiser, average, metrics;
- second-order steps against the first-order one: with the published single probe in forward mode;
  the same where blocks are recomputed or where only every second image has the second-order term;
  with two independent probes; and, as baseline, reverse over reverse with the reconstruction term
  in the loss;
- the share of the time that goes to fetching and placing batches, one step being under way
  meanwhile as in a training: at most that long does a device wait for input; without the
  experiment's data, batches of made images of its shape;
- how long saving a checkpoint holds the loop.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.input_pipeline import Case, Made, make
from benchmarks.measuring import machine, markdown_table, medians
from benchmarks.programs import Stepper, experiment_of, flags, megabytes, random_batch
from data.errors import MissingData
from data.pipeline import Data
from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.diffusion.end_terms import GaussianEnds
from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.networks.rematerialization import KeepProducts
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching, diffusion_weight
from diffusion_ode.objectives.objective import LossTerms
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import (
    Identity,
    IndependentProbes,
    Residual,
    SingleProbe,
    squared_residual,
)
from diffusion_ode.training.program import TrainProgram

_MADE = 10_000  # images
_SAVES = 5


def main() -> None:
    """Measures and prints."""
    arguments = flags(__doc__, rounds=20).parse_args()
    experiment = experiment_of(arguments.exp, arguments.set)
    program = experiment.train.program(experiment)
    folder = tempfile.TemporaryDirectory()
    batches = _batches(experiment, program, Path(folder.name))  # what is missing is seen at once
    objectives = _objectives(program)
    steps = {name: Stepper.of(program, **changes) for name, changes in objectives.items()}
    bare, bare_bytes = _bare(program)
    seconds = medians({"bare": bare, **steps}, arguments.rounds)
    size = {"bare": bare_bytes, **{name: step.temporary_bytes for name, step in steps.items()}}

    def row(what, name, baseline, unit):
        share = seconds[name] / seconds[baseline]
        memory = size[name] / size[baseline]
        return [
            what,
            f"{1e3 * seconds[name]:.1f}",
            f"{share:.2f} × {unit}",
            megabytes(size[name]),
            f"{memory:.2f} × {unit}",
        ]

    waiting = _share_waiting(batches, steps["first"], arguments.rounds)
    saving = _held_by_saving(steps["first"], Path(folder.name))
    rest = seconds["rest"] / seconds["first"]
    order = "first order"
    print(f"{arguments.exp}, batch {program.batch_size}: {machine()}\n")
    print(
        markdown_table(
            ["", "ms", "", "temporary MB", ""],
            [
                row("bare forward and backward", "bare", "bare", "bare"),
                row("training step", "first", "bare", "bare"),
                [
                    "… all but the network",
                    f"{1e3 * seconds['rest']:.2f}",
                    f"{100 * rest:.1f} % of a step",
                    "",
                    "",
                ],
                row("second-order step, one probe", "second", "first", order),
                row("… products kept only", "recomputed", "first", order),
                row("… on every second image", "every second", "first", order),
                row("… two independent probes", "independent", "first", order),
                row("baseline: reverse over reverse", "reverse", "first", order),
                [
                    "fetching and placing batches",
                    "",
                    f"{100 * waiting:.2f} % of the time",
                    "",
                    "",
                ],
                [
                    "saving a checkpoint holds the loop",
                    f"{1e3 * saving:.1f}",
                    f"{saving / seconds['first']:.2f} × a step",
                    "",
                    "",
                ],
            ],
        )
    )


def _objectives(program: TrainProgram) -> dict[str, dict]:
    """The steps to compare, by the fields of the program in which they differ."""
    times, model = program.objective.times, program.model
    second = SecondOrderFlowMatching(times, residual=SingleProbe())
    steps = {
        "first": {"objective": FlowMatching(times)},
        "rest": {"objective": WithoutNetwork(times)},
        "second": {"objective": second},
        "every second": {
            "objective": SecondOrderFlowMatching(times, residual=SingleProbe(), every=2)
        },
        "independent": {"objective": SecondOrderFlowMatching(times, residual=IndependentProbes())},
        "reverse": {"objective": ReverseOverReverse(times)},
    }
    if isinstance(model.network, UNet):
        network = model.network.clone(remat=KeepProducts())
        recomputed = Model(
            model.path, model.schedule, model.parameterization, network, model.pixels
        )
        steps["recomputed"] = {"objective": second, "model": recomputed}
    return steps


@dataclass(frozen=True)
class WithoutNetwork(FlowMatching):
    """The step's other work: a gradient for every parameter, and all draws.

    Making the gradient reads the parameters and writes as much, which is counted too.
    """

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        del flag, dropout_key
        x = model.pixels.encode(images)
        z = model.noised(x, draws.gamma, draws.noise)
        error = z - model.target(x, draws.gamma, draws.noise)
        diffusion = diffusion_weight(model, draws) * squared_norm(error) + _touched(parameters)
        return LossTerms(diffusion, {"diffusion": diffusion})


@jax.custom_vjp
def _touched(parameters):
    """Nothing, with a gradient that is computed and stored as a network's would be."""
    del parameters
    return 0.0


def _touched_gradient(parameters, cotangent):
    gradients = jax.tree.map(lambda leaf: 1e-9 * cotangent * leaf, parameters)
    # Else XLA would make it inside of the optimiser's update, and never read it.
    return (jax.lax.optimization_barrier(gradients),)


_touched.defvjp(lambda parameters: (0.0, parameters), _touched_gradient)


@dataclass(frozen=True)
class ReverseProbe(SingleProbe):
    """`SingleProbe` with vᵀJ in reverse mode, so that its gradient is reverse over reverse."""

    def estimate(self, network, z, target, identity: Identity, probes):
        output, pullback = jax.vjp(network, z)
        (along,) = pullback(probes[0])
        trace = jnp.sum(probes[0] * along, axis=(1, 2, 3))
        return Residual(output, squared_residual(trace, output, target, identity))


@dataclass(frozen=True)
class ReverseOverReverse(SecondOrderFlowMatching):
    """The baseline: reverse mode twice, and the terms without gradient in the loss as well."""

    residual: SingleProbe = field(default_factory=ReverseProbe)

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        terms = super().loss(model, parameters, images, flag, draws, dropout_key)
        ends = GaussianEnds()
        without_gradient = ends.reconstruction(model, images, draws.noise) + ends.prior(
            model, images
        )
        return LossTerms(terms.loss + without_gradient, terms.parts)


def _bare(program: TrainProgram):
    """The gradient of the network's mean squared output: what no training step can do without."""
    model, batch = program.model, random_batch(program)
    parameters = jax.jit(model.init)(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), batch["image"].shape)
    gamma = jnp.linspace(model.schedule.gamma_0, model.schedule.gamma_1, len(z))
    key = jax.random.key(2)

    def loss(parameters, z, gamma, flag, key):
        return jnp.mean(model.predict(parameters, z, gamma, flag, key) ** 2)

    # All of them arguments: of constants XLA would compute parts while it compiles.
    arguments = (parameters, z, gamma, batch["flag"], key)
    compiled = jax.jit(jax.grad(loss)).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    assert memory is not None  # XLA's for a CPU, a GPU or a TPU has it
    return lambda: compiled(*arguments), memory.temp_size_in_bytes


def _batches(experiment, program: TrainProgram, folder: Path) -> Iterator[dict[str, Any]]:
    """The experiment's own batches, or such of made images if its data is not there."""
    data = experiment.data
    try:
        images = data.load()
    except MissingData as error:
        print(f"{error}\nBatches are of made images.\n", flush=True)
        case = Case("made", _MADE, program.model.pixels.shape)
        data, images = Data(Made(case), data.augmentation), make(case, folder)
    return data.train_batches(images, batch_size=program.batch_size, seed=0)


def _share_waiting(batches: Iterator[Any], step: Stepper, rounds: int) -> float:
    """The share of the time that goes to batches, one step being under way as in `TrainLoop`."""

    def fetched():
        return step.program.place(next(batches))

    _, under_way = step(fetched())
    waited, begun = 0.0, time.perf_counter()
    for _ in range(rounds):
        start = time.perf_counter()
        batch = fetched()
        waited += time.perf_counter() - start
        _, metrics = step(batch)
        jax.block_until_ready(under_way)
        under_way = metrics
    jax.block_until_ready(under_way)
    return waited / (time.perf_counter() - begun)


def _held_by_saving(step: Stepper, folder: Path) -> float:
    """Median seconds until `save` returns, but for the first time, which compiles the digests."""
    held = []
    with Checkpoints(folder / "checkpoints") as checkpoints:
        for number in range(_SAVES + 1):
            state, _ = jax.block_until_ready(step())
            checkpoints.wait()  # in a training the one before is long complete
            start = time.perf_counter()
            checkpoints.save(number + 1, state, {}, {})
            held.append(time.perf_counter() - start)
    return statistics.median(held[1:])


if __name__ == "__main__":
    main()
