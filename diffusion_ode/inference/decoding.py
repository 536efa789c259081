"""From z at the data end to an image."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from diffusion_ode.diffusion.model import Model
from diffusion_ode.typing import Images, Key, Levels


@runtime_checkable
class Decoder(Protocol):
    """Levels [b, h, w, c] from z at γ0."""

    def __call__(self, model: Model, z: Images, key: Key) -> Levels: ...


@dataclass(frozen=True)
class NearestLevel:
    """The likeliest level, arg max P(k | z0): that whose bin centre is nearest to z0/α0."""

    def __call__(self, model, z, key):
        del key
        return model.pixels.nearest(z / model.path.alpha(jnp.asarray(model.schedule.gamma_0)))


@dataclass(frozen=True)
class DrawnLevel:
    """A draw from P(k | z0), as the variational bound's model has it.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.3.
    """

    def __call__(self, model, z, key):
        gamma_0 = jnp.asarray(model.schedule.gamma_0, z.dtype)
        return model.pixels.draw(key, z / model.path.alpha(gamma_0), gamma_0)
