"""A weighting of what the eye can see."""

from dataclasses import dataclass

import fiddle as fdl
import jax.numpy as jnp

from diffusion_ode.diffusion.weighting import Weighting
from experiments.registry import experiment


@dataclass(frozen=True)
class AboveNoise(Weighting):
    """Nothing below γ = `least`, where the noise is finer than a level."""

    least: float = -6.0

    def weight(self, path, schedule, gamma):
        return jnp.where(gamma < self.least, 0.0, 1.0)


@experiment(parent="digits_vp")
def digits_above_noise(config: fdl.Config) -> fdl.Config:
    """Errors that no one sees cost nothing, and the others become fewer."""
    config.train.objective.weighting = fdl.Config(AboveNoise)
    return config
