"""What the platform is good at."""

import contextlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from diffusion_ode.errors import UserError

_VIRTUAL_DEVICES = re.compile(r"--xla_force_host_platform_device_count=(\d+)")
_PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds"
_SECONDS = 600  # XLA's own 40 are few where others use the processor

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


def training_options() -> dict[str, Any] | None:
    """The compiler's, for the initial state and the step.

    On CPUs XLA's level 1 compiles the initial state of small networks in 0.4 of the processor's
    time and the step in 0.83 (photos_vp) to 0.89 (digits_vp) of it, and the step is as fast, to the
    same last bit. At level 0 values differ by 6e-8, and the step is slower. A level that
    $XLA_FLAGS has stays.
    """
    level = "xla_backend_optimization_level"
    if platform() != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return None
    return {level: 1}


def check_devices() -> None:
    """Refuses to go on where JAX finds no device, before anything of it is asked for.

    Raises:
      UserError: with what to set.
    """
    take_turns()
    try:
        jax.devices()
    except Exception as error:  # JAX asserts, too, that there is a device
        asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        if not asked:
            raise UserError(f"JAX finds no device to compute on: {error}.") from error
        raise UserError(
            f"JAX finds no device for JAX_PLATFORMS={asked} on this machine: unset it to take what"
            " there is, set it to cpu, or install JAX for that device as BUILD.md says."
        ) from error


def take_turns() -> None:
    """Lets the devices that are made of one processor run one program after the other.

    Where others use it too, the parts of two programs that were begun at once may take each other's
    threads, and the collectives of both then wait for parts that do not run, until XLA aborts. Has
    no effect once JAX has looked for devices.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    asked = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
    if int((_VIRTUAL_DEVICES.findall(flags) or [asked])[-1]) > 1:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        if _PATIENCE not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {_PATIENCE}={_SECONDS}".strip()


def refuse_tracing(what: str, *given: Any) -> None:
    """Refuses what would make a part of a compiled program of what the host drives.

    Args:
      what: the name of the method.
      given: its arguments.

    Raises:
      UserError: it was called within `jax.jit`, `grad` or `vmap`.
    """
    if any(isinstance(one, Tracer) for one in (*given, jnp.zeros(()))):
        raise UserError(
            f"{what} compiles its own programs and drives them image by image, so it cannot be part"
            " of jax.jit, jax.grad or jax.vmap: call it outside of them with arrays of NumPy."
        )
