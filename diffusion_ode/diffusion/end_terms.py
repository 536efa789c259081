"""The terms of the variational bound that belong to the ends of the path."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from diffusion_ode.diffusion.model import Model
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
    """The decoder of `Pixels`, and the KL term of the model's prior, which is also the ODE's.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.3 and equation 12.
    """

    def reconstruction(self, model, levels, noise):
        return -model.pixels.log_probability(levels, noise, model.schedule.gamma_0)

    def prior(self, model, levels):
        return model.prior_divergence(model.pixels.encode(levels))
