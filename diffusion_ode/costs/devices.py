"""What devices can do at most: their makers' figures."""

import re
from dataclasses import dataclass

import jax

from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import suggestion

_GIGABYTE = 1e9
_TERA = 1e12


@dataclass(frozen=True)
class Device:
    """One chip's peaks: dense, without sparsity.

    Attributes:
      name: as `--device` takes it.
      kind: how JAX's `device_kind` begins.
      bfloat16: FLOP/s of products of bfloat16; where a chip has no units for it, those of float32,
        in which XLA then computes it.
      float32: FLOP/s of products of float32 arrays at XLA's default precision, which is TF32 on
        NVIDIA's chips since Ampere, and one pass of bfloat16 on TPUs.
      memory: bytes.
      bandwidth: bytes/s of that memory.
      network: bytes/s that one chip sends to its peers.
      per_host: chips that reach each other at that rate; None: all of a slice do.
      between_hosts: bytes/s that one chip sends once there are more.
    """

    name: str
    kind: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    network: float
    per_host: int | None = None
    between_hosts: float | None = None

    def network_among(self, devices: int) -> float:
        """Bytes/s that one chip sends where so many take part: the slowest link's on the way."""
        if self.per_host is None or self.between_hosts is None or devices <= self.per_host:
            return self.network
        return min(self.network, self.between_hosts)

    @property
    def platform(self) -> str:
        """As JAX calls it."""
        return "tpu" if self.kind.startswith("TPU") else "gpu"


_GPUS_PER_HOST = 8  # as makers and clouds sell them


def _device(name, kind, bfloat16, float32, memory, bandwidth, network, between=None) -> Device:
    """From TFLOP/s, GB and GB/s, the units of data sheets."""
    return Device(
        name,
        kind,
        bfloat16 * _TERA,
        float32 * _TERA,
        memory * _GIGABYTE,
        bandwidth * _GIGABYTE,
        network * _GIGABYTE,
        None if between is None else _GPUS_PER_HOST,
        None if between is None else between * _GIGABYTE,
    )


# NVIDIA's data sheets, their rates "with sparsity" halved, and Google's pages on each Cloud TPU.
# T4, V100 and RTX 2080 have units for float16 but none for bfloat16: their float32 stands in both
# columns. GeForce's products are those that are added up in float32, half as fast as in float16.
# The network is NVLink's or the inter-chip interconnect's in one direction, of cards in a slot that
# of PCI Express: a bridge to one neighbour does not carry a sum over all. Between hosts it is one
# GPU's share: an adapter each in NVIDIA's machines (NDR InfiniBand with H100 and H200, HDR with
# A100), half an adapter of 100 Gbit/s in those with V100; cards in slots are taken to share two
# such adapters among eight, T4 and L4 one. Chips of a TPU slice are wired to each other whatever
# their hosts; several slices are not in the table.
DEVICES = (
    _device("t4", "Tesla T4", 8.1, 8.1, 16, 300, 16, 1.6),
    _device("rtx-2080-ti", "NVIDIA GeForce RTX 2080 Ti", 13.4, 13.4, 11, 616, 16, 3.1),
    _device("rtx-3080", "NVIDIA GeForce RTX 3080", 59.5, 29.8, 10, 760, 32, 3.1),
    _device("rtx-3090-ti", "NVIDIA GeForce RTX 3090 Ti", 80, 40, 24, 1008, 32, 3.1),
    _device("rtx-3090", "NVIDIA GeForce RTX 3090", 71, 35.6, 24, 936, 32, 3.1),
    _device("rtx-4080", "NVIDIA GeForce RTX 4080", 97.5, 48.7, 16, 717, 32, 3.1),
    _device("rtx-4090", "NVIDIA GeForce RTX 4090", 165, 82.6, 24, 1008, 32, 3.1),
    _device("rtx-5080", "NVIDIA GeForce RTX 5080", 113, 56.3, 16, 960, 64, 3.1),
    _device("rtx-5090", "NVIDIA GeForce RTX 5090", 210, 105, 32, 1792, 64, 3.1),
    _device("rtx-a5000", "NVIDIA RTX A5000", 111, 55.6, 24, 768, 32, 3.1),
    _device("rtx-a6000", "NVIDIA RTX A6000", 155, 77.4, 48, 768, 32, 3.1),
    _device("rtx-6000-ada", "NVIDIA RTX 6000 Ada Generation", 364, 182, 48, 960, 32, 3.1),
    _device("rtx-pro-6000", "NVIDIA RTX PRO 6000 Blackwell", 504, 252, 96, 1792, 64, 3.1),
    _device("a10", "NVIDIA A10", 125, 62.5, 24, 600, 32, 3.1),
    _device("a10g", "NVIDIA A10G", 70, 35, 24, 600, 32, 1.6),
    _device("a40", "NVIDIA A40", 150, 74.8, 48, 696, 32, 3.1),
    _device("l4", "NVIDIA L4", 121, 60, 24, 300, 32, 1.6),
    _device("l40", "NVIDIA L40", 181, 90.5, 48, 864, 32, 3.1),
    _device("l40s", "NVIDIA L40S", 362, 183, 48, 864, 32, 3.1),
    _device("v100-16gb", "Tesla V100-SXM2-16GB", 15.7, 15.7, 16, 900, 150, 6.25),
    _device("v100-pcie-16gb", "Tesla V100-PCIE-16GB", 14, 14, 16, 900, 16, 3.1),
    _device("v100-pcie", "Tesla V100-PCIE-32GB", 14, 14, 32, 900, 16, 3.1),
    _device("v100", "Tesla V100-SXM2-32GB", 15.7, 15.7, 32, 900, 150, 6.25),
    _device("a100-40gb", "NVIDIA A100-SXM4-40GB", 312, 156, 40, 1555, 300, 25),
    _device("a100-pcie-40gb", "NVIDIA A100-PCIE-40GB", 312, 156, 40, 1555, 32, 3.1),
    _device("a100-pcie", "NVIDIA A100 80GB PCIe", 312, 156, 80, 1935, 32, 3.1),
    _device("a100", "NVIDIA A100-SXM4-80GB", 312, 156, 80, 2039, 300, 25),
    _device("h100-pcie", "NVIDIA H100 PCIe", 756, 378, 80, 2000, 64, 3.1),
    _device("h100-nvl", "NVIDIA H100 NVL", 835, 418, 94, 3900, 64, 3.1),
    _device("h100", "NVIDIA H100 80GB HBM3", 989, 495, 80, 3350, 450, 50),
    _device("h200-nvl", "NVIDIA H200 NVL", 835, 418, 141, 4800, 64, 3.1),
    _device("h200", "NVIDIA H200", 989, 495, 141, 4800, 450, 50),
    _device("gh200", "NVIDIA GH200 480GB", 989, 495, 96, 4000, 450, 50),
    _device("b200", "NVIDIA B200", 2250, 1125, 180, 7700, 900, 50),
    _device("gb200", "NVIDIA GB200", 2500, 1250, 186, 8000, 900, 50),
    _device("v4", "TPU v4", 275, 275, 32, 1228, 150),
    _device("v5e", "TPU v5 lite", 197, 197, 16, 819, 100),
    _device("v5p", "TPU v5", 459, 459, 95, 2765, 300),
    _device("v6e", "TPU v6 lite", 918, 918, 32, 1640, 200),
)
"""The longer of two kinds that begin alike comes first. A100 and H100 without more in their name
are those on boards of eight with 80 GB, V100 that with 32 GB."""

SHOWN = ("a100", "h100", "v5e", "v6e")
"""What a description shows if none is asked for."""


def find_device(name: str) -> Device:
    """The device of that name, ours or JAX's, however it is spelt.

    Raises:
      UserError: the table has none.
    """
    by_name = {_plain(device.name): device for device in DEVICES}
    found = by_name.get(_plain(name)) or of_kind(name)
    if found is None:
        names = [device.name for device in DEVICES]
        meant = suggestion(name, names, few=len(names))  # no other place lists them
        raise UserError(f"There is no device {name!r} in the table; {meant}")
    return found


def _plain(name: str) -> str:
    """As people write it: `RTX 4090`, `rtx4090` and `rtx-4090` are one name, and `4090` is too."""
    return re.sub(r"nvidia|geforce|rtx|[^a-z0-9]", "", name.lower())


def of_kind(device_kind: str) -> Device | None:
    """The table's entry for what JAX calls a device, if it has one."""
    if " MIG " in device_kind or "Laptop" in device_kind:
        return None  # a slice of one chip, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", or a slower namesake
    for device in DEVICES:
        rest = device_kind.removeprefix(device.kind)
        # What follows is of a variant ("Tesla V100-SXM2-32GB-LS"), not another number's end.
        if rest != device_kind and not rest[:1].isalnum():
            return device
    return None


def peak_flops(half: bool = False) -> float | None:
    """FLOP/s that all devices of this run reach together at most; None where it is not known.

    Of CPUs it is not: no table has them all, and what a measurement finds depends on who else uses
    the host.

    Args:
      half: of bfloat16 instead of float32.
    """
    entry = of_kind(jax.devices()[0].device_kind)
    if entry is None:
        return None
    return (entry.bfloat16 if half else entry.float32) * jax.device_count()
