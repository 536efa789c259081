"""What the platform is good at."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_target: ContextVar[str | None] = ContextVar("target", default=None)


@contextlib.contextmanager
def compiling_for(another: str) -> Iterator[None]:
    """Within, programs are traced for that platform ("tpu", "gpu", "cpu"), not for this one."""
    before = _target.set(another)
    try:
        yield
    finally:
        _target.reset(before)


def platform() -> str:
    """What programs are traced for: "cpu", "gpu" or "tpu"."""
    return _target.get() or jax.default_backend()


def loops_are_fast() -> bool:
    """Whether a network may sit inside `scan` or `while_loop`.

    XLA's CPU backend runs convolutions there at half speed, and their gradients at a tenth: on
    CPUs loops are unrolled or driven by the host.
    """
    return platform() != "cpu"


def options_for_a_single_call() -> dict[str, int] | None:
    """The compiler's, for a program that costs more to compile than to run.

    On CPUs XLA's level 1 compiles the initial state of small networks in 0.4 of the processor's
    time, to the same last bit; level 0 in 0.3 of it, to 6e-8.
    """
    return {"xla_backend_optimization_level": 1} if platform() == "cpu" else None
