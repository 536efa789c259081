"""The real training step compiled for a TPU slice that is not there."""

import importlib.metadata
import importlib.util
import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from diffusion_ode.backend import compiling_for
from diffusion_ode.costs.devices import Device, of_kind
from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import either
from diffusion_ode.training.collectives import Collective, collectives
from diffusion_ode.training.program import TrainProgram

# What libtpu would ask Google's cloud for or say on the screen, answered; and its lock left alone,
# since nothing here uses a TPU.
_QUIET = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


_GRIDS_TO_256 = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
# The slices that Google's cloud has of the kinds whose chips are wired as a grid; the compiler
# would also take grids that there are not, some of them with a third dimension.
_GRIDS = {"v5e": _GRIDS_TO_256, "v6e": _GRIDS_TO_256}
_CUBES = ("v4", "v5p")  # any number of 2×2 hosts along three axes


@dataclass(frozen=True)
class TargetStep:
    """What the compiler says of a step on one device of a slice.

    Attributes:
      device: the table's entry for it, if there is one.
      seconds: that compiling took.
      state, batch, temporary, code: bytes on each device; `state` is reused for the new one.
      peak: bytes that are in use at once, at most, by the compiler's count; the areas that it sets
        aside, `temporary` among them, may be larger.
      too_large: the compiler's own words if the step does not fit; the bytes are then 0.
      flops: by XLA's count, which takes the body of each loop once.
      collectives: what is sent between devices.
    """

    device: Device | None
    seconds: float
    state: int = 0
    batch: int = 0
    temporary: int = 0
    code: int = 0
    peak: int = 0
    too_large: str | None = None
    flops: float = 0.0
    collectives: tuple[Collective, ...] = ()

    @property
    def memory(self) -> int:
        """Bytes on each device, all areas together."""
        return self.state + self.batch + self.temporary + self.code

    @property
    def fits(self) -> str:
        """Whether it does, in words; the compiler has refused what is far too large."""
        if self.too_large is not None:
            return "does not fit"
        if self.device is None or self.memory <= self.device.memory:
            return "fits"
        return "may fit" if 0 < self.peak <= self.device.memory else "does not fit"


def slice_devices(topology: str) -> Sequence[Any]:
    """The devices of a TPU slice such as `v5e:2x4`, to compile for.

    Must come before anything asks JAX for its devices: this process then stays on its CPU.

    Raises:
      UserError: libtpu is missing, or there is no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "--target needs TPU's compiler, which is not installed:"
            f' pip install "{_wanted_libtpu()}"; no TPU is needed.'
        )
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")  # libtpu is for compiling: no TPU is looked for
    from jax.experimental import topologies

    _check_name(topology)
    try:
        return topologies.get_topology_desc(topology, "tpu", **_chip(topology)).devices
    except Exception as error:  # JAX and libtpu raise several kinds
        raise UserError(
            f"There is no TPU slice {topology!r}{_reason(str(error))}: {_EXAMPLES}."
        ) from error


def compile_for_slice(program: TrainProgram) -> TargetStep:
    """Compiles a training's step whose mesh is of a slice's devices; minutes."""
    kind = next(iter(program.placement.batch.device_set)).device_kind

    begin = time.perf_counter()
    with compiling_for("tpu"):
        try:
            step = program.compile_step()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return TargetStep(
                of_kind(kind), time.perf_counter() - begin, too_large=_exhausted(str(error))
            )
    memory = step.executable.memory_analysis()
    batch = sum(
        leaf.dtype.itemsize * _elements(leaf) for leaf in jax.tree.leaves(program.abstract_batch)
    )
    return TargetStep(
        device=of_kind(kind),
        seconds=step.seconds,
        state=memory.argument_size_in_bytes - batch,
        batch=batch,
        temporary=memory.temp_size_in_bytes
        + max(memory.output_size_in_bytes - memory.alias_size_in_bytes, 0),
        code=memory.generated_code_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        flops=float(step.executable.cost_analysis()["flops"]),
        collectives=tuple(collectives(step.executable.as_text())),
    )


def _check_name(topology: str) -> None:
    """Refuses what the compiler takes although no slice is like that."""
    kind, _, chips = topology.partition(":")
    if not topology:  # the compiler would look for the machine's own
        raise UserError(f"--target= is empty: {_EXAMPLES}.")
    if topology != topology.lower():
        raise UserError(
            f"There is no TPU slice {topology!r}: names are in small letters, such as v5e:2x4."
        )
    if kind in _GRIDS and chips not in _GRIDS[kind]:
        raise UserError(
            f"There is no TPU slice {topology!r}: those of {kind} are {either(_GRIDS[kind])},"
            f" such as {kind}:2x4."
        )
    if kind in _CUBES and not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", chips):
        raise UserError(
            f"There is no TPU slice {topology!r}: chips of {kind} lie along three axes, such as"
            f" {kind}:2x2x1."
        )


_EXAMPLES = "give a kind and its chips, such as v5e:2x4, v5e:16x16, v5p:2x2x1 or v6e:4x4"


def _chip(topology: str) -> dict[str, str]:
    """What makes one device of a chip's two cores, as a real v4 does."""
    return {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}


def _elements(leaf) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape))


def _reason(message: str) -> str:
    """Why, in libtpu's words, where they help; a regular expression does not."""
    words = re.sub(r"^[A-Z_]+: ", "", message.split("\n")[0]).rstrip(".")
    return f" ({words})" if "layout" in words else ""


def _exhausted(message: str) -> str:
    """Of the compiler's pages the sentence that says how much is missing."""
    found = re.search(r"Used [^.]*(?:\.\d[^.]*)* of [^\n]*?hbm\. Exceeded [^\n]*?\.\n", message)
    return " ".join((found[0] if found else message.splitlines()[0]).split())


def _wanted_libtpu() -> str:
    """The version that this JAX was made for."""
    for requirement in importlib.metadata.requires("jax") or ():
        if requirement.startswith("libtpu"):
            return requirement.partition(";")[0].strip()
    return "libtpu"
