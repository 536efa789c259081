"""How long a training would take on a device that is not there."""

from dataclasses import dataclass
from typing import Any

import jax

from diffusion_ode.backend import compiling_for
from diffusion_ode.costs.devices import Device
from diffusion_ode.costs.flops import train_step_flops
from diffusion_ode.costs.memory import StepBytes, activation_bytes, train_step_bytes
from diffusion_ode.networks.block_loop import Unrolled
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.rematerialization import KeepAll
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


def estimate(program: TrainProgram, device: Device) -> Estimate | None:
    """A step of a training, its mesh made of such devices; None if its network is unknown."""
    network: Any = program.model.network
    with compiling_for(device.platform):
        flops, size = train_step_flops(program), train_step_bytes(program)
        if flops is None or size is None:
            return None
        moved = _traffic(program) + _STATE_TRAFFIC * size.parameters
    half = isinstance(network.precision, Bfloat16)
    peak = device.bfloat16 if half else device.float32
    devices = program.placement.mesh.size
    computed = (flops.model + flops.recomputed) / (devices * peak * UTILISATION)
    return Estimate(
        devices=devices,
        compute=computed,
        memory=moved / (device.bandwidth * REACHED_BANDWIDTH),
        network=sent_bytes(program) / (device.network_among(devices) * REACHED_BANDWIDTH),
        size=size,
        fits=size.total <= device.memory,
    )


def _traffic(program: TrainProgram) -> float:
    """Bytes of activations that one device reads and writes, whether it keeps them or not."""
    network: Any = program.model.network
    kept = activation_bytes(program, network.clone(remat=KeepAll(), loop=Unrolled()))
    again = 1.0 if isinstance(network.remat, KeepAll) else _TRAFFIC_AGAIN
    return _TRAFFIC * again * kept * program.accumulation


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
