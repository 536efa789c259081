"""The terms of the variational bound that belong to the ends of the path."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.typing import Images, Levels, PerImage


@runtime_checkable
class EndTerms(Protocol):
    """The two terms of the bound that belong to the ends of the path."""

    def reconstruction(self, model: Model, levels: Levels, noise: Images) -> PerImage:
        """The term −log P(k | z0) at z0 = α0 x + σ0 ε, nats per image."""
        ...

    def prior(self, model: Model, levels: Levels) -> PerImage:
        """The term KL(q(z1 | x) ‖ p(z1)), nats per image."""
        ...


@dataclass(frozen=True)
class GaussianEnds:
    """The decoder of `Pixels`, and the prior N(0, σ1² I) of the ODE: its KL is ½α1²‖x‖²/σ1².

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.3 and equation 12, with σ1² for 1.
    """

    def reconstruction(self, model, levels, noise):
        return -model.pixels.log_probability(levels, noise, model.schedule.gamma_0)

    def prior(self, model, levels):
        x = model.pixels.encode(levels)
        return 0.5 * squared_norm(x) * jnp.exp(-jnp.asarray(model.schedule.gamma_1, x.dtype))
