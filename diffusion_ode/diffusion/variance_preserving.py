"""The variance-preserving path."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.path import Path


@dataclass(frozen=True)
class VariancePreserving(Path):
    """Constant variance: α² = sig(−γ), σ² = sig(γ), so that α² + σ² = 1.

    Velocity F = αε − σx, ε = αF + σz. With φ = arctan e^{γ/2} (α = cos φ, σ = sin φ) the
    probability-flow ODE is dz/dφ = F.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.2; Salimans and Ho 2022,
    arXiv:2202.00512, appendix D; Zheng et al. 2023, arXiv:2305.03935, section 3.
    """

    def log_alpha(self, gamma):
        return 0.5 * jax.nn.log_sigmoid(-gamma)

    def log_sigma(self, gamma):
        return 0.5 * jax.nn.log_sigmoid(gamma)

    def velocity_skip(self, gamma):
        return self.sigma(gamma)

    def velocity_trace_offset(self, gamma):
        return self.alpha(gamma)

    def natural_time(self, gamma):
        """The angle φ = arctan e^{γ/2}, from 0 (data) to π/2 (noise)."""
        return jnp.arctan(jnp.exp(0.5 * gamma))

    def gamma_of_natural_time(self, time):
        return 2.0 * jnp.log(jnp.tan(time))

    def signal_remaining(self, gamma):
        """The integral ∫_γ^∞ sig(−γ′) dγ′ = sp(−γ)."""
        return jax.nn.softplus(-gamma)

    def gamma_of_signal_remaining(self, signal):
        """The γ = −log(e^S − 1), so written that neither a large nor a small S overflows."""
        return -(signal + jnp.log(-jnp.expm1(-signal)))
