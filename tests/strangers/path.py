"""The sub-VP path of Song et al. 2020, arXiv:2011.13456, section 3.4."""

from dataclasses import dataclass

import fiddle as fdl
import jax.numpy as jnp

from diffusion_ode.diffusion.path import Path
from experiments.registry import experiment


@dataclass(frozen=True)
class SubVariancePreserving(Path):
    """Sub-VP, σ = 1 − α²: less noise than the variance-preserving path in the middle."""

    def log_alpha(self, gamma):
        ratio = jnp.exp(0.5 * gamma)  # σ/α, so α² + α·ratio = 1
        return jnp.log(2.0) - jnp.log(ratio + jnp.sqrt(ratio**2 + 4.0))

    def log_sigma(self, gamma):
        return jnp.log(2.0) - jnp.log1p(jnp.sqrt(1.0 + 4.0 * jnp.exp(-gamma)))


@experiment(parent="digits_vp")
def digits_sub_vp(config: fdl.Config) -> fdl.Config:
    """Less noise in the middle leaves the likelihood as it is."""
    config.model.path = fdl.Config(SubVariancePreserving)
    return config
