"""How long a training would take on a device that is not there."""

from dataclasses import dataclass

import jax

from diffusion_ode.backend import compiling_for
from diffusion_ode.costs.devices import Device
from diffusion_ode.costs.flops import StepFlops, train_step_flops
from diffusion_ode.costs.memory import StepBytes, activations, images_at_once, train_step_bytes
from diffusion_ode.training.program import TrainProgram

UTILISATION = 0.4
"""Assumed: the share of its peak that a device reaches in convolutions of these widths."""
REACHED_BANDWIDTH = 0.8
"""Assumed: the share of its peak that a memory or a network reaches."""
# XLA's own count of the bytes that a step reads and writes is ten times those that an unrolled
# network keeps, for blocks with and without attention, to first and second order; on its CPU
# backend, which leaves more operations apart than others do: an upper bound.
_TRAFFIC = 10.0
# What is computed again is written and read again: one more pass beside three.
_TRAFFIC_AGAIN = 4.0 / 3.0
# Parameter, average, two moments and gradient are read; the first four are written.
_STATE_TRAFFIC = 9
_FLOAT32 = 4


@dataclass(frozen=True)
class Estimate:
    """One step on some devices, in seconds by what bounds it; nothing of it is measured.

    Attributes:
      devices: how many.
      compute: FLOPs / (devices · peak · 0.4).
      memory: bytes read and written / (bandwidth · 0.8).
      network: bytes that each device sends / (its network's bandwidth · 0.8); beyond one host the
        bandwidth is that between hosts.
      size: bytes needed on each device.
      fits: whether they are there.
    """

    devices: int
    compute: float
    memory: float
    network: float
    size: StepBytes
    fits: bool

    @property
    def seconds(self) -> float:
        """Products and memory's traffic overlap; gradients are sent when they are all there."""
        return max(self.compute, self.memory) + self.network

    @property
    def bound(self) -> str:
        """What takes longest."""
        times = {"compute": self.compute, "memory": self.memory, "network": self.network}
        return max(times, key=lambda name: times[name])

    def device_seconds(self, num_steps: int) -> float:
        """Of all devices together, for a whole run."""
        return self.seconds * num_steps * self.devices


def estimate(program: TrainProgram, device: Device, flops: StepFlops | None = None) -> Estimate:
    """A step of a training, its mesh made of such devices.

    Args:
      program: the training.
      device: of which its mesh is made.
      flops: of the step, if they are known already.
    """
    devices = program.placement.mesh.size
    with compiling_for(device.platform):
        flops, size = flops or train_step_flops(program), train_step_bytes(program)
        moved = _traffic(program, flops) + _STATE_TRAFFIC * size.parameters
    peak = device.bfloat16 if flops.bfloat16 else device.float32
    computed = (flops.model + flops.recomputed) / (devices * peak * UTILISATION)
    return Estimate(
        devices=devices,
        compute=computed,
        memory=moved / (device.bandwidth * REACHED_BANDWIDTH),
        network=sent_bytes(program) / (device.network_among(devices) * REACHED_BANDWIDTH),
        size=size,
        fits=size.total <= device.memory,
    )


def fits(program: TrainProgram, device: Device) -> bool:
    """Whether each device of the training's mesh has the memory that a step needs."""
    with compiling_for(device.platform):
        return train_step_bytes(program).total <= device.memory


def _traffic(program: TrainProgram, flops: StepFlops) -> float:
    """Bytes of activations that one device reads and writes, whether it keeps them or not."""
    again = _TRAFFIC_AGAIN if flops.recomputed else 1.0
    moved = images_at_once(program) * activations(program).everything
    return _TRAFFIC * again * moved * program.accumulation


def sent_bytes(program: TrainProgram) -> float:
    """That each device sends in one step, around rings: gradients and, with fsdp, parameters.

    With P the bytes of the parameters, d and f the sizes of the axes data and fsdp: the parameters
    are gathered and the gradients scattered along fsdp, (f − 1)/f · P each; what each device then
    holds is summed along data, 2(d − 1)/d · P/f.
    """
    mesh = program.placement.mesh.shape
    data, fsdp = mesh["data"], mesh["fsdp"]
    count = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.parameters))
    whole = float(_FLOAT32 * count)
    return 2 * (fsdp - 1) / fsdp * whole + 2 * (data - 1) / data * whole / fsdp
