"""The straight path."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.path import Path

_NEWTON_STEPS = 4  # float32 accuracy over γ ∈ [−20, 20]; a test measures it
_SERIES_BELOW = 0.1  # α under which softplus − sigmoid would cancel more than three digits
_SERIES_TERMS = 9  # α^9 / 11 < 1e-10 there


@dataclass(frozen=True)
class StraightPath(Path):
    """Straight lines from data to noise: α = sig(−γ/2), σ = sig(γ/2), so that α + σ = 1.

    Velocity F = (ε − x)/√2, ε = √2 αF + z. With σ as the variable the probability-flow ODE is
    dz/dσ = √2 F.

    Source: Lipman et al. 2022, arXiv:2210.02747 (with σ_min = 0); Zheng et al. 2023,
    arXiv:2305.03935, section 3, for the factor 1/√2.
    """

    velocity_gain: ClassVar[float] = math.sqrt(2.0)

    def log_alpha(self, gamma):
        return jax.nn.log_sigmoid(-0.5 * gamma)

    def log_sigma(self, gamma):
        return jax.nn.log_sigmoid(0.5 * gamma)

    def velocity_skip(self, gamma):
        return jnp.ones_like(gamma)

    def velocity(self, gamma, x, noise):
        del gamma  # straight: the same all along the path
        return (noise - x) * math.sqrt(0.5)

    def velocity_trace_offset(self, gamma):
        return jnp.full_like(gamma, math.sqrt(0.5))

    def natural_time(self, gamma):
        """The factor σ itself, from 0 (data) to 1 (noise)."""
        return self.sigma(gamma)

    def gamma_of_natural_time(self, time):
        return 2.0 * (jnp.log(time) - jnp.log1p(-time))

    def signal_remaining(self, gamma):
        """The integral ∫_γ^∞ α² dγ′ = 2(σ − 1 − log σ)."""
        return 2.0 * _excess(0.5 * gamma)

    def gamma_of_signal_remaining(self, signal):
        """The γ at which 2(σ − 1 − log σ) = S, that is σ = −W₀(−e^{−1 − S/2}) (Lambert's W).

        Newton's method on the logarithm of both sides in the variable γ/2, which is almost linear
        at the noise end, from a starting point that is accurate at either end.
        """
        excess = 0.5 * signal
        target = jnp.log(excess)
        logit = _starting_logit(excess)
        for _ in range(_NEWTON_STEPS):
            value = _excess(logit)
            slope = -jnp.exp(2.0 * jax.nn.log_sigmoid(-logit)) / value
            logit = logit - (jnp.log(value) - target) / slope
        return 2.0 * logit


def _excess(logit):
    """The excess σ − 1 − log σ at σ = sig(logit): positive, quadratic in α near the noise end."""
    alpha = jax.nn.sigmoid(-logit)
    series = jnp.zeros_like(alpha)
    for power in range(_SERIES_TERMS + 1, 1, -1):  # Horner on α²/2 + α³/3 + …
        series = series * alpha + 1.0 / power
    return jnp.where(alpha < _SERIES_BELOW, alpha**2 * series, jax.nn.softplus(-logit) - alpha)


def _starting_logit(excess):
    """Near the branch point of W₀ its series in p = √(2(1 − e^{−δ})); far from it σ ≈ e^{σ−1−δ}."""
    near = jnp.minimum(excess, 1.0)
    p = jnp.sqrt(-2.0 * jnp.expm1(-near))
    alpha = p - p**2 / 3.0 + 11.0 * p**3 / 72.0
    near_logit = jnp.log1p(-alpha) - jnp.log(alpha)

    log_sigma = -1.0 - jnp.maximum(excess, 1.0)
    log_sigma = log_sigma + jnp.exp(log_sigma)
    far_logit = log_sigma - jnp.log1p(-jnp.exp(log_sigma))
    return jnp.where(excess < 1.0, near_logit, far_logit)
