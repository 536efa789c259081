"""Seconds to trace and compile a deep network's training step, unrolled and scanned.

    python -m benchmarks.many_blocks [--blocks=32] [--exp=digits_vp] [--rounds=5] [--set …]
    python -m benchmarks.many_blocks --exp=cifar10_vp --target=v5e:2x4

Prints both loops over the blocks with the time of their step, and which one the platform chooses.
Here with small features and a small batch: the number of operations to compile does not depend on
them. With --target the experiment as it is, by the compiler of a TPU slice that is not there, hence
without the time of a step; the loop that is chosen there comes first, as the other may take long.
"""

import argparse
import time

import jax

from benchmarks.measuring import machine, markdown_table, medians
from benchmarks.programs import Stepper, flags, program_of, random_batch, slice_to_compile_for
from diffusion_ode.backend import compiling_for, loops_are_fast
from diffusion_ode.training.program import TrainProgram

_SMALL = ("model.network.features=32", "train.batch_size=4")
_LOOPS = ("unrolled", "scanned")


def main() -> None:
    """Measures and prints."""
    parser = flags(__doc__, rounds=5)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--target", metavar="SLICE", help="such as v5e:2x4: compile for it")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    if arguments.target is None:
        _here(arguments)
    else:
        devices = slice_to_compile_for(parser, arguments.target)
        with compiling_for("tpu"):
            _there(arguments, devices)


def _here(arguments: argparse.Namespace) -> None:
    # What JAX and XLA do only once is no loop's: a small step first, of each loop.
    for loop in _LOOPS:
        _compiled(program_of(arguments.exp, _settings(arguments, loop, _SMALL, blocks=1)))
    seconds, run = {}, {}
    for loop in _LOOPS:
        program = program_of(arguments.exp, _settings(arguments, loop, _SMALL))
        seconds[loop], executable = _compiled(program)
        run[loop] = Stepper(program, executable, _ones(program), random_batch(program))
    steps = medians(run, arguments.rounds)
    print(f"{arguments.exp} with {arguments.blocks} blocks: {machine()}\n")
    rows = [
        [*_row(loop, seconds), f"{1e3 * steps[loop]:.0f}", _ratio(steps, loop)] for loop in _LOOPS
    ]
    print(markdown_table([*_HEADER, "step ms", "× unrolled"], rows))


def _there(arguments: argparse.Namespace, devices) -> None:
    seconds = {}
    for loop in reversed(_LOOPS):
        program = program_of(arguments.exp, _settings(arguments, loop), devices)
        seconds[loop], _ = _compiled(program)
        traced, compiled = seconds[loop]
        print(f"{loop}: traced in {traced:.1f} s, compiled in {compiled:.1f} s", flush=True)
    what = f"{arguments.exp} with {arguments.blocks} blocks for {arguments.target}"
    print(f"\n{what}, compiled by: {machine()}\n")
    print(markdown_table(_HEADER, [_row(loop, seconds) for loop in _LOOPS]))


_HEADER = ["loop", "trace s", "compile s", "both × unrolled"]


def _row(loop: str, seconds: dict[str, tuple[float, float]]) -> list[str]:
    chosen = "scanned" if loops_are_fast() else "unrolled"
    traced, compiled = seconds[loop]
    both = {name: sum(parts) for name, parts in seconds.items()}
    name = loop + (" (chosen)" if loop == chosen else "")
    return [name, f"{traced:.1f}", f"{compiled:.1f}", _ratio(both, loop)]


def _ratio(seconds: dict[str, float], loop: str) -> str:
    return f"{seconds[loop] / seconds['unrolled']:.2f}"


def _settings(arguments: argparse.Namespace, loop: str, small=(), blocks: int | None = None):
    return [
        f"model.network.blocks={blocks or arguments.blocks}",
        *small,
        *arguments.set,
        f"model.network.loop={loop}()",
    ]


def _compiled(program: TrainProgram):
    """Seconds to trace and lower and seconds to compile, and the step."""
    program.abstract_state  # noqa: B018 - traced here, as it is no loop's
    start = time.perf_counter()
    lowered = program.lower_step()
    traced = time.perf_counter()
    executable = program.compile_step(lowered)
    return (traced - start, time.perf_counter() - traced), executable


def _ones(program: TrainProgram):
    """A state all of ones: initialising a deep network has a compilation of its own."""
    return jax.tree.map(lambda leaf: jax.numpy.ones(leaf.shape, leaf.dtype), program.abstract_state)


if __name__ == "__main__":
    main()
