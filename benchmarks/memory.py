"""Bytes and time of a training step by precision, rematerialisation, loop and accumulation.

    python -m benchmarks.memory [--exp=digits_vp] [--rounds=5] [--set PATH=VALUE …] [--second]

Every combination of the four independent fields, each against the plain step (float32, everything
kept, blocks unrolled, one part), with what the compiled step needs beside arguments and results.
A combination takes as long to compile as an experiment; --set train.batch_size=… fits the table to
a machine.
"""

import itertools

import jax

from benchmarks.measuring import machine, markdown_table, medians
from benchmarks.programs import Stepper, flags, megabytes, program_of
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe

FIELDS = {
    "model.network.precision": ("float32()", "bfloat16()"),
    "model.network.remat": ("keep_all()", "keep_products()", "keep_inputs()"),
    "model.network.loop": ("unrolled()", "scanned()"),
    "train.accumulation": ("1", "4"),
}


def main() -> None:
    """Measures and prints."""
    parser = flags(__doc__, rounds=5)
    parser.add_argument("--second", action="store_true", help="of the second-order step")
    arguments = parser.parse_args()
    combinations = list(itertools.product(*FIELDS.values()))
    steps: dict[str, Stepper] = {}
    for values in combinations:
        settings = [f"{path}={value}" for path, value in zip(FIELDS, values, strict=True)]
        program = program_of(arguments.exp, [*arguments.set, *settings])
        changes = {}
        if arguments.second:
            residual = SingleProbe()
            changes["objective"] = SecondOrderFlowMatching(
                program.objective.times, residual=residual
            )
        steps[" ".join(values)] = Stepper.of(program, **changes)
    seconds = medians(steps, arguments.rounds)

    plain = " ".join(combinations[0])
    rows = [
        [
            *values,
            megabytes(steps[name].temporary_bytes),
            f"{steps[name].temporary_bytes / steps[plain].temporary_bytes:.2f}",
            f"{1e3 * seconds[name]:.1f}",
            f"{seconds[name] / seconds[plain]:.2f}",
        ]
        for values, name in zip(combinations, steps, strict=True)
    ]
    order = "second-order" if arguments.second else "first-order"
    state = steps[plain].program.abstract_state
    print(f"{arguments.exp}, {order} step, {' '.join(arguments.set)}: {machine()}")
    print(f"the state takes {megabytes(_bytes(state))} MB besides\n")
    header = [*(path.rpartition(".")[2] for path in FIELDS), "temporary MB", "×", "ms", "×"]
    print(markdown_table(header, rows))


def _bytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    main()
