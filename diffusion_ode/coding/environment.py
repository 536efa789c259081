"""What the same floats depend on besides the model: libraries and device."""

import os
import platform
import sys
import zlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jax

_LIBRARIES = ("numpy", "constriction")  # what computes beside JAX


@dataclass(frozen=True)
class Environment:
    """Where a file is written or read.

    Attributes:
      jax, jaxlib: versions, three numbers each.
      machine: a checksum of the device's kind, the processor and the other libraries.
    """

    jax: tuple[int, ...]
    jaxlib: tuple[int, ...]
    machine: int

    @classmethod
    def here(cls) -> "Environment":
        """This process's."""
        machine = zlib.crc32("\n".join(_machine()).encode())
        return cls(_version("jax"), _version("jaxlib"), machine)

    def difference(self, here: "Environment") -> str | None:
        """How this one, of a file, differs from where it is read; None if it does not."""
        for name in ("jax", "jaxlib"):
            there, ours = (".".join(map(str, getattr(e, name))) for e in (self, here))
            if there != ours:
                return f"with {name} {there}, and this is {ours}"
        if self.machine != here.machine:
            ours = "; ".join(described())
            return f"on another kind of machine or with other libraries than these ({ours})"
        return None


def described() -> list[str]:
    """The machine and the libraries, as they are shown."""
    device, *rest = _machine()
    kind = dict.fromkeys(device.split())  # "cpu cpu" is one
    return [" ".join(kind), *("1 core" if part == "1 cores" else part for part in rest)]


def _version(library: str) -> tuple[int, ...]:
    """The first three numbers; of a development version what comes after them is left out."""
    numbers = [int(part) if part.isdigit() else 0 for part in metadata.version(library).split(".")]
    return tuple((numbers + [0] * 3)[:3])


def _machine() -> list[str]:
    device = jax.devices()[0]
    libraries = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    parts = [f"{device.platform} {device.device_kind}", *libraries, platform.machine()]
    if device.platform == "cpu":  # its kind says nothing, and sums are divided among threads
        parts += [_processor(), f"{_cores()} cores"]
    return parts


def _cores() -> int | None:
    """That this process may use, which XLA divides sums among."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _processor() -> str:
    """The model's name, as Linux gives it; elsewhere what Python knows."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
