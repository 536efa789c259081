"""The sub-variance-preserving path."""

from dataclasses import dataclass

import jax.numpy as jnp

from diffusion_ode.diffusion.path import Path


@dataclass(frozen=True)
class SubVariancePreserving(Path):
    """Sub-VP: σ = 1 − α², never more noise than the variance-preserving path has at the same α.

    With r = σ/α = e^{γ/2} it is α² + rα = 1, so α = e^{−arsinh(r/2)}. Velocity
    F = (2αε − x)/(1 + α²), ε = αF + z/(1 + α²). With τ = 4/3 − α − α³/3 the probability-flow ODE is
    dz/dτ = F.

    Source: Song et al. 2020, arXiv:2011.13456, section 3.4.
    """

    def log_alpha(self, gamma):
        return -jnp.arcsinh(0.5 * jnp.exp(0.5 * gamma))

    def log_sigma(self, gamma):
        """The log of 2/(1 + √(1 + 4q)), q = e^{−γ}, so written that σ near one keeps its digits."""
        q = jnp.exp(-gamma)
        return -jnp.log1p(2.0 * q / (1.0 + jnp.sqrt(1.0 + 4.0 * q)))

    def log_alpha_derivative(self, gamma):
        return -0.5 * self.sigma(gamma) * self.velocity_skip(gamma)

    def log_sigma_derivative(self, gamma):
        square = self.alpha(gamma) ** 2
        return square / (1.0 + square)

    def velocity_skip(self, gamma):
        return 1.0 / (1.0 + self.alpha(gamma) ** 2)

    def velocity_trace_offset(self, gamma):
        alpha = self.alpha(gamma)
        return 2.0 * alpha / (1.0 + alpha**2)

    def natural_time(self, gamma):
        """The time τ = 1 − α + (1 − α³)/3, from 0 (data) to 4/3 (noise)."""
        log_alpha = self.log_alpha(gamma)
        return -jnp.expm1(log_alpha) - jnp.expm1(3.0 * log_alpha) / 3.0

    def signal_remaining(self, gamma):
        """The integral ∫_γ^∞ α² dγ′ = −2 log σ − α²."""
        return -2.0 * self.log_sigma(gamma) - self.alpha(gamma) ** 2
