"""The cosine schedule."""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_ode.diffusion.schedule import NoiseSchedule
from diffusion_ode.ranges import Gamma


@dataclass(frozen=True)
class CosineSchedule(NoiseSchedule):
    """Cosine: γ(t) = 2 log tan θ, with an angle θ = θ0 + (θ1 − θ0) t that runs evenly, fixed.

    Of the variance-preserving path it makes α = cos θ and σ = sin θ: equal steps of time are equal
    steps along the quarter circle, and more of them than the linear schedule's lie about γ = 0.
    The ends θ_i = arctan e^{γ_i/2} take the place of the offset s in the first paper.

    Args:
      gamma_0: γ at the data end.
      gamma_1: γ at the noise end.

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17; Kingma and Gao 2023,
    arXiv:2303.00848, for its form in γ (there λ = −γ).
    """

    gamma_0: Gamma = -13.3
    gamma_1: Gamma = 5.0

    def gamma(self, time):
        # tan θ = sin θ / sin(π/2 − θ): either sine keeps its digits where its angle is small.
        angle, rest = self._angles(time)
        return 2.0 * (jnp.log(jnp.sin(angle)) - jnp.log(jnp.sin(rest)))

    def derivative(self, time):
        """The rate 2 (θ1 − θ0)/(sin θ cos θ)."""
        angle, rest = self._angles(time)
        (start, _), (end, _) = self._ends
        return 2.0 * (end - start) / (jnp.sin(angle) * jnp.sin(rest))

    @property
    def _ends(self) -> list[tuple[float, float]]:
        """The angles θ and π/2 − θ at γ0 and at γ1."""
        halves = (0.5 * self.gamma_0, 0.5 * self.gamma_1)
        return [(math.atan(math.exp(half)), math.atan(math.exp(-half))) for half in halves]

    def _angles(self, time):
        """The angles θ and π/2 − θ at t."""
        (start, rest_at_start), (end, rest) = self._ends
        return start + (end - start) * time, rest + (rest_at_start - rest) * (1.0 - time)
