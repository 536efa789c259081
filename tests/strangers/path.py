"""A path between the variance-preserving and the straight one."""

from dataclasses import dataclass

import fiddle as fdl
import jax

from diffusion_ode.diffusion.path import Path
from experiments.registry import experiment


@dataclass(frozen=True)
class PowerPath(Path):
    """The curve α^p + σ^p = 1: variance-preserving for p = 2, straight for p = 1."""

    power: float = 1.5

    def log_alpha(self, gamma):
        return jax.nn.log_sigmoid(-0.5 * self.power * gamma) / self.power

    def log_sigma(self, gamma):
        return jax.nn.log_sigmoid(0.5 * self.power * gamma) / self.power


@experiment(parent="digits_vp")
def digits_power_path(config: fdl.Config) -> fdl.Config:
    """A path between the two leaves the likelihood as it is."""
    config.model.path = fdl.Config(PowerPath)
    return config
