"""Times about the γ at which images form."""

from dataclasses import dataclass, field

import fiddle as fdl
import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.time_sampling import Times, TimeSampler
from diffusion_ode.diffusion.uniforms import LowDiscrepancyUniforms, Uniforms
from experiments.registry import experiment


@dataclass(frozen=True)
class LogisticTimes(TimeSampler):
    """A logistic distribution of γ, cut at γ0 and γ1."""

    centre: float = -2.0
    scale: float = 2.0
    uniforms: Uniforms = field(default_factory=LowDiscrepancyUniforms)

    def sample(self, state, path, schedule, u):
        ends = jnp.asarray([schedule.gamma_0, schedule.gamma_1], u.dtype)
        first, last = jax.nn.sigmoid((ends - self.centre) / self.scale)
        share = first + (last - first) * u
        gamma = self.centre + self.scale * jnp.log(share / (1.0 - share))
        return Times(gamma, share * (1.0 - share) / (self.scale * (last - first)))


@experiment(parent="digits_vp")
def digits_logistic_times(config: fdl.Config) -> fdl.Config:
    """Most is learnt where images form, and the bound is the same wherever one looks."""
    config.train.objective.times = fdl.Config(LogisticTimes)
    config.evaluate.bound.times = fdl.Config(LogisticTimes)
    return config
