"""What the platform is good at."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_target: ContextVar[str | None] = ContextVar("target", default=None)


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Within, programs are traced for that platform ("tpu", "gpu", "cpu"), not for this one."""
    before = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(before)


def loops_are_fast() -> bool:
    """Whether a network may sit inside `scan` or `while_loop`.

    XLA's CPU backend runs convolutions there at half speed, and their gradients at a tenth: on
    CPUs loops are unrolled or driven by the host.
    """
    return (_target.get() or jax.default_backend()) != "cpu"
