"""What a training step costs beside the bare forward and backward pass of the same network.

    python -m benchmarks.train_step [--exp=digits_vp] [--rounds=20] [--set PATH=VALUE …]

Prints a markdown table of medians, each as a ratio to its baseline measured in the same run:

- the experiment's training step against the gradient of the network's squared output on the same
  batch, with the same dropout;
- the second-order step against the first-order one;
- the share of a step that is spent waiting for input.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from benchmarks.measuring import machine, markdown_table, medians
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.training.program import TrainProgram
from experiments import registry
from launch.building import build
from launch.overrides import override


def main() -> None:
    """Measures and prints."""
    flags = _flags()
    config = override(registry.configuration_of(registry.find(flags.exp)), flags.set)
    experiment = build(config)
    program = experiment.train.program(experiment)
    images = experiment.data.load()
    batches = experiment.data.train_batches(images, batch_size=program.batch_size, seed=0)
    batch = program.place(next(batches))

    second = TrainProgram(
        **{**vars_of(program), "objective": SecondOrderFlowMatching(program.objective.times)}
    )
    seconds = medians(
        {
            "bare": _bare(program, batch),
            "first": _stepper(program, batch),
            "second": _stepper(second, batch),
        },
        flags.rounds,
    )
    waiting = _waiting(batches, program, flags.rounds)
    print(f"{flags.exp}, batch {program.batch_size}: {machine()}\n")
    print(
        markdown_table(
            ["", "milliseconds", "ratio"],
            [
                ["bare forward and backward", f"{1e3 * seconds['bare']:.1f}", ""],
                [
                    "training step",
                    f"{1e3 * seconds['first']:.1f}",
                    f"{seconds['first'] / seconds['bare']:.3f} × bare",
                ],
                [
                    "second-order step",
                    f"{1e3 * seconds['second']:.1f}",
                    f"{seconds['second'] / seconds['first']:.2f} × first order",
                ],
                [
                    "waiting for input",
                    f"{1e3 * waiting:.2f}",
                    f"{100 * waiting / seconds['first']:.2f} % of a step",
                ],
            ],
        )
    )


def vars_of(program: TrainProgram) -> dict:
    """The program's fields, to make a variation of it."""
    return {name: getattr(program, name) for name in program.__dataclass_fields__}


def _bare(program: TrainProgram, batch):
    """The gradient of the network's mean squared output: what no training step can do without."""
    model = program.model
    parameters = model.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), batch["image"].shape)
    gamma = jnp.linspace(model.schedule.gamma_0, model.schedule.gamma_1, len(z))
    key = jax.random.key(2)

    @jax.jit
    def gradient(parameters):
        def loss(parameters):
            return jnp.mean(model.predict(parameters, z, gamma, batch["flag"], key) ** 2)

        return jax.grad(loss)(parameters)

    return lambda: gradient(parameters)


def _stepper(program: TrainProgram, batch):
    state, step = program.fresh_state(), program.compile_step()

    def advance():
        nonlocal state
        state, metrics = step(state, batch)
        return state, metrics

    return advance


def _waiting(batches, program: TrainProgram, rounds: int) -> float:
    """Median seconds that `next` takes when a step has run since the last one."""
    advance = _stepper(program, program.place(next(batches)))
    jax.block_until_ready(advance())
    waits = []
    for _ in range(rounds):
        jax.block_until_ready(advance())
        start = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - start)
    return sorted(waits)[len(waits) // 2]


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exp", default="digits_vp")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
