"""Seconds to trace and compile a deep network's training step, unrolled and scanned.

    python -m benchmarks.many_blocks [--blocks=32] [--exp=digits_vp] [--rounds=5] [--set …]

Prints both loops over the blocks with the time of their step, and which one the platform chooses.
Small features and a small batch by default: the number of operations to compile does not depend on
them.
"""

import time

import jax

from benchmarks.measuring import machine, markdown_table, medians
from benchmarks.programs import Stepper, flags, program_of, random_batch
from diffusion_ode.backend import loops_are_fast
from diffusion_ode.training.program import TrainProgram

_SMALL = ("model.network.features=32", "train.batch_size=4")
_LOOPS = ("unrolled", "scanned")


def main() -> None:
    """Measures and prints."""
    parser = flags(__doc__, rounds=5)
    parser.add_argument("--blocks", type=int, default=32)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)

    # What JAX and XLA do only once is no loop's: a small step first, of each loop.
    for loop in _LOOPS:
        _prepared(
            program_of(
                arguments.exp,
                ["model.network.blocks=1", *_SMALL, *arguments.set, f"model.network.loop={loop}()"],
            )
        )
    traced, compiled, run = {}, {}, {}
    for loop in _LOOPS:
        settings = [
            f"model.network.blocks={arguments.blocks}",
            *_SMALL,
            *arguments.set,
            f"model.network.loop={loop}()",
        ]
        traced[loop], compiled[loop], run[loop] = _prepared(program_of(arguments.exp, settings))
    seconds = medians(run, arguments.rounds)

    def total(loop: str) -> float:
        return traced[loop] + compiled[loop]

    chosen = "scanned" if loops_are_fast() else "unrolled"
    rows = [
        [
            loop + (" (chosen here)" if loop == chosen else ""),
            f"{traced[loop]:.1f}",
            f"{compiled[loop]:.1f}",
            f"{total(loop) / total('unrolled'):.2f}",
            f"{1e3 * seconds[loop]:.0f}",
            f"{seconds[loop] / seconds['unrolled']:.2f}",
        ]
        for loop in _LOOPS
    ]
    print(f"{arguments.exp} with {arguments.blocks} blocks: {machine()}\n")
    header = [
        "loop",
        "trace s",
        "compile s",
        "both × unrolled",
        "step ms",
        "× unrolled",
    ]
    print(markdown_table(header, rows))


def _prepared(program: TrainProgram):
    """Seconds to trace and lower, seconds to compile, and a function that runs the step.

    The state's arrays are all ones: initialising a deep network has a compilation of its own.
    """
    state = jax.tree.map(
        lambda leaf: jax.numpy.ones(leaf.shape, leaf.dtype), program.abstract_state
    )
    start = time.perf_counter()
    lowered = program.lower_step()
    traced = time.perf_counter() - start
    start = time.perf_counter()
    executable = lowered.compile()
    compiled = time.perf_counter() - start
    return traced, compiled, Stepper(program, executable, state, random_batch(program))


if __name__ == "__main__":
    main()
