"""Bytes and time of a training step by precision, rematerialisation, loop and accumulation.

    python -m benchmarks.memory [--exp=digits_vp] [--rounds=5] [--set PATH=VALUE …] [--second]
    python -m benchmarks.memory --exp=cifar10_vp --target=v5e:2x4

Every combination of the four independent fields, each against the plain step (float32, everything
kept, blocks unrolled, one part), with what the compiled step needs beside arguments and results.
A combination takes as long to compile as an experiment; --set train.batch_size=… fits the table to
a machine.

With --target the step is compiled for a TPU slice that is not there: bytes on each of its chips and
no times, with scanned blocks only, as chosen there. XLA's CPU backend keeps what is to be computed
again, so that rematerialisation shows there, and here only where blocks are scanned.
"""

import argparse
import dataclasses
import itertools
from typing import Any

import jax

from benchmarks.measuring import machine, markdown_row, markdown_table, medians
from benchmarks.programs import Stepper, flags, program_of, slice_to_compile_for
from diffusion_ode.costs.target import compile_for_slice
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe
from diffusion_ode.reporting.quantities import data_size, short_time
from diffusion_ode.training.program import TrainProgram

FIELDS = {
    "model.network.precision": ("float32()", "bfloat16()"),
    "model.network.remat": ("keep_all()", "keep_products()", "keep_inputs()"),
    "model.network.loop": ("unrolled()", "scanned()"),
    "train.accumulation": ("1", "4"),
}
_NAMES = tuple(path.rpartition(".")[2] for path in FIELDS)


def main() -> None:
    """Measures and prints."""
    parser = flags(__doc__, rounds=5)
    parser.add_argument("--second", action="store_true", help="of the second-order step")
    parser.add_argument("--target", metavar="SLICE", help="such as v5e:2x4: compile for it")
    arguments = parser.parse_args()
    order = "second-order" if arguments.second else "first-order"
    title = ", ".join([arguments.exp, f"{order} step", *arguments.set])
    if arguments.target is None:
        _here(arguments, title)
    else:
        _there(arguments, title, slice_to_compile_for(parser, arguments.target))


def _here(arguments: argparse.Namespace, title: str) -> None:
    combinations = list(itertools.product(*FIELDS.values()))
    steps = {values: Stepper.of(_program(arguments, values)) for values in combinations}
    seconds = medians(steps, arguments.rounds)
    plain = combinations[0]
    rows = [
        [
            *values,
            data_size(steps[values].temporary_bytes),
            f"{steps[values].temporary_bytes / steps[plain].temporary_bytes:.2f}",
            short_time(seconds[values]),
            f"{seconds[values] / seconds[plain]:.2f}",
        ]
        for values in combinations
    ]
    print(f"{title}: {machine()}")
    print(f"the state takes {data_size(_bytes(steps[plain].program.abstract_state))} besides\n")
    print(markdown_table([*_NAMES, "temporary", "×", "time", "×"], rows))


def _there(arguments: argparse.Namespace, title: str, devices) -> None:
    print(f"{title}, on each of {len(devices)} chips of {arguments.target}")
    print(f"compiled by: {machine()}\n", flush=True)
    print(markdown_table([*_NAMES, "temporary", "×", "in all", "at once", "fits"], []), flush=True)
    plain = None
    for values in itertools.product(*FIELDS.values()):
        if "scanned()" in values:
            step = compile_for_slice(_program(arguments, values, devices))
            cells = ["", "", "", "", f"does not fit: {step.too_large}"]
            if step.too_large is None:
                plain = plain or step.temporary
                ratio = f"{step.temporary / plain:.2f}"
                sizes = data_size(step.memory), data_size(step.peak)
                cells = [data_size(step.temporary), ratio, *sizes, step.fits]
            print(markdown_row([*values, *cells]), flush=True)


def _program(arguments: argparse.Namespace, values, devices=None) -> TrainProgram:
    settings = [f"{path}={value}" for path, value in zip(FIELDS, values, strict=True)]
    program = program_of(arguments.exp, [*arguments.set, *settings], devices)
    if not arguments.second:
        return program
    objective: Any = program.objective  # its times stay: which they are is the experiment's
    second = SecondOrderFlowMatching(times=objective.times, residual=SingleProbe())
    return dataclasses.replace(program, objective=second)


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    main()
