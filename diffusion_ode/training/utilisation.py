"""How much of what the devices could do is used."""

from dataclasses import dataclass


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
