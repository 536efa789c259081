"""The schedule on which the straight path is walked evenly."""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_ode.diffusion.schedule import NoiseSchedule
from diffusion_ode.ranges import Gamma


@dataclass(frozen=True)
class StraightSchedule(NoiseSchedule):
    """Even steps of σ: γ(t) = 2 log (σ/(1 − σ)), σ = σ0 + (σ1 − σ0) t with σ_i = sig(γ_i/2), fixed.

    Flow matching's time, reversed: uniform t is uniform along the lines of the straight path. The
    ends take the place of σ_min, which is σ0.

    Args:
      gamma_0: γ at the data end.
      gamma_1: γ at the noise end.

    Source: Lipman et al. 2022, arXiv:2210.02747, equations 20 to 23.
    """

    gamma_0: Gamma = -13.3
    gamma_1: Gamma = 13.3

    def gamma(self, time):
        sigma, alpha = self._walked(time)
        return 2.0 * (jnp.log(sigma) - jnp.log(alpha))

    def derivative(self, time):
        """The rate 2 (σ1 − σ0)/(σ (1 − σ))."""
        sigma, alpha = self._walked(time)
        return 2.0 * (_share(self.gamma_1) - _share(self.gamma_0)) / (sigma * alpha)

    def _walked(self, time):
        """The σ and 1 − σ at t, each from its small end."""
        sigma, alpha = (
            (_share(sign * self.gamma_0), _share(sign * self.gamma_1)) for sign in (1, -1)
        )
        return (
            sigma[0] + (sigma[1] - sigma[0]) * time,
            alpha[1] + (alpha[0] - alpha[1]) * (1.0 - time),
        )


def _share(gamma: float) -> float:
    return 1.0 / (1.0 + math.exp(-0.5 * gamma))
