"""The variance-exploding path."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_ode.diffusion.path import Path


@dataclass(frozen=True)
class VarianceExploding(Path):
    """Noise is added, and the data stays as it is: α = 1, σ = e^{γ/2}.

    Velocity F = ε, with no term in x or z: velocity and noise prediction are one. With σ as the
    variable the probability-flow ODE is dz/dσ = ε̂. The prior is N(0, σ1² I), with σ1 = 12 at
    γ1 = 5.

    The signal ∫α² does not end: S(γ) = −γ, and importance sampling is uniform in [γ0, γ1].

    Source: Song et al. 2020, arXiv:2011.13456, section 3.4 and appendix B.
    """

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
