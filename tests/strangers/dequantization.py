"""Noise that is densest in the middle of a level's bin."""

from dataclasses import dataclass
from typing import ClassVar

import fiddle as fdl
import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.dequantization import Start
from experiments.registry import experiment


@dataclass(frozen=True)
class TriangularDequantization:
    """z = α0 ((2(k + u))/V − 1), where u in (0, 1) is the mean of two uniform numbers."""

    closed_form_entropy: ClassVar[bool] = False

    def gamma(self, model):
        return model.schedule.gamma_0

    def draw(self, model, key):
        return jnp.mean(jax.random.uniform(key, (2, *model.pixels.shape), minval=1e-6), axis=0)

    def start(self, model, levels, noise):
        alpha = model.path.alpha(jnp.asarray(model.schedule.gamma_0))
        z = alpha * (2.0 * (levels + noise) / model.pixels.levels - 1.0)
        density = 4.0 * jnp.minimum(noise, 1.0 - noise) * model.pixels.levels / (2.0 * alpha)
        return Start(z, -jnp.sum(jnp.log(density), axis=(1, 2, 3)))


@experiment(parent="digits_vp")
def digits_triangular(config: fdl.Config) -> fdl.Config:
    """A code length, if a few hundredths of a bit longer than the truncated normal's."""
    config.evaluate.ode.dequantization = fdl.Config(TriangularDequantization)
    return config
