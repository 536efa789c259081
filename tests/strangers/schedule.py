"""A noise schedule that lingers in the middle."""

from dataclasses import dataclass

import fiddle as fdl

from diffusion_ode.diffusion.schedule import NoiseSchedule
from experiments.registry import experiment


@dataclass(frozen=True)
class SlowMiddle(NoiseSchedule):
    """Half a line and half a cube of time, both from γ0 to γ1."""

    gamma_0: float
    gamma_1: float

    def gamma(self, time):
        s = 2.0 * time - 1.0
        middle, half = 0.5 * (self.gamma_0 + self.gamma_1), 0.5 * (self.gamma_1 - self.gamma_0)
        return middle + half * 0.5 * (s + s**3)


@experiment(parent="digits_vp")
def digits_slow_middle(config: fdl.Config) -> fdl.Config:
    """What is drawn changes, and the bound does not."""
    ends = {"gamma_0": config.model.schedule.gamma_0, "gamma_1": config.model.schedule.gamma_1}
    config.model.schedule = fdl.Config(SlowMiddle, **ends)
    return config
