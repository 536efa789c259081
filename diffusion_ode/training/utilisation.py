"""How much of what the devices could do is used."""

from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Utilisation:
    """Model FLOPs utilisation: FLOPs that the model needs · steps per second / peak FLOP/s.

    What is computed again to save memory does not count as needed.

    Args:
      step_flops: in matrix products and convolutions of one step, all devices together.
      peak: FLOP/s of all devices together.

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.
    """

    step_flops: float
    peak: float

    def at(self, steps_per_second: float) -> float:
        """A share of one."""
        return self.step_flops * steps_per_second / self.peak


def device_memory() -> dict[str, float]:
    """Bytes in use, and the most that were, on the fullest of this process's devices.

    Empty where the backend does not tell, as on a CPU.
    """
    told = [stats for device in jax.local_devices() if (stats := device.memory_stats())]
    names = {"train/memory_in_use": "bytes_in_use", "train/peak_memory": "peak_bytes_in_use"}
    return {
        name: float(max(stats[key] for stats in told))
        for name, key in names.items()
        if told and all(key in stats for stats in told)
    }
