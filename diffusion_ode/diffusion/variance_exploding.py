"""The variance-exploding path."""

import math
from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_ode.diffusion.path import Path
from diffusion_ode.errors import UserError

_LARGEST = 2.0 * math.log(2.0**24)  # the γ above which x + σε = σε in float32, for |x| ≤ 1 ≤ |ε|


@dataclass(frozen=True)
class VarianceExploding(Path):
    """Noise is added, and the data stays as it is: α = 1, σ = e^{γ/2}.

    Velocity F = ε, with no term in x or z: velocity and noise prediction are one. With σ as the
    variable the probability-flow ODE is dz/dσ = ε̂. The prior is N(0, σ1² I), with σ1 = 12 at
    γ1 = 5.

    The signal ∫α² does not end: S(γ) = −γ, and importance sampling is uniform in [γ0, γ1].

    Source: Song et al. 2020, arXiv:2011.13456, section 3.4 and appendix B.
    """

    def check(self, schedule):
        """Refuses a noise end at which float32 has nothing of x: times are drawn up to there."""
        if schedule.gamma_1 > _LARGEST:
            raise UserError(
                f"model.schedule.gamma_1 = {schedule.gamma_1} on VarianceExploding is σ ="
                f" {math.exp(0.5 * schedule.gamma_1):.2g}, and above σ = 2^24 (γ = {_LARGEST:.1f})"
                " float32 rounds the image in x + σε away: give one below that, such as 9.2103,"
                " which is σ = 100."
            )

    def log_alpha(self, gamma):
        return jnp.zeros_like(gamma)

    def log_sigma(self, gamma):
        return 0.5 * gamma

    def natural_time(self, gamma):
        """The factor σ itself."""
        return self.sigma(gamma)

    def gamma_of_natural_time(self, time):
        return 2.0 * jnp.log(time)

    def signal_remaining(self, gamma):
        return -gamma

    def gamma_of_signal_remaining(self, signal):
        return -signal
