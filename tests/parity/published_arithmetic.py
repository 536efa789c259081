"""The order in which the recording was computed in float32, where its last bit decides.

The Fourier features multiply z by up to 2π·2⁷ before they take its sine, and the derivative of the
network multiplies by it once more: one unit in the last place of z moves a second-order term by
1e-3 of the group's largest. So the replay forms γ, α, σ and z in the recorded order, which is less
accurate than ours (σ at γ = 5 is good to 1e-7, but α = √(1 − σ²) only to 1e-5), and hands them to
the same objectives. So it is with the decoder at γ0.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.variance_preserving import VariancePreserving

_BISECTIONS = 100
_SMALL = 1e-3  # below it log(1 + e) and 1/(1 + e) were replaced by their first terms


@dataclass(frozen=True)
class RecordedVariancePreserving(VariancePreserving):
    """α = √(1 − sig(γ)), σ = √sig(γ)."""

    def alpha(self, gamma):
        return jnp.sqrt(1 - jax.nn.sigmoid(gamma))

    def sigma(self, gamma):
        return jnp.sqrt(jax.nn.sigmoid(gamma))


@dataclass(frozen=True)
class RecordedStraightPath(StraightPath):
    """σ = sig(γ/2), α = 1 − σ."""

    def alpha(self, gamma):
        return 1 - jax.nn.sigmoid(gamma / 2)

    def sigma(self, gamma):
        return jax.nn.sigmoid(gamma / 2)


RECORDED_PATHS = {"VP": RecordedVariancePreserving(), "SP": RecordedStraightPath()}


def recorded_gamma(path: str, importance: bool, gamma_0: float, gamma_1: float, t):
    """γ from the recorded uniform numbers t, [b]."""
    if not importance:
        return gamma_0 + (gamma_1 - gamma_0) * t
    if path == "VP":
        total = jnp.log((1 + jnp.exp(-gamma_0)) / (1 + jnp.exp(-gamma_1)))
        return jnp.log(1 / (jnp.exp(-total * t) * (1 + jnp.exp(-gamma_0)) - 1))
    return _bisected(gamma_0, gamma_1, t)


def recorded_deviation(model: Model, x, noise):
    """How far z0/α0² is from x in units of s = e^{γ0/2}, by way of z0/α0².

    That rounds to 6e-8 of which s ≈ 1e-3 is the unit, and moves the reconstruction term by 4e-5 of
    itself; the program forms the same number from the noise, and loses nothing.
    """
    spread = jnp.exp(0.5 * jnp.asarray(model.schedule.gamma_0, x.dtype))
    rescaled = x + spread * noise
    twice = rescaled / model.path.alpha(jnp.asarray(model.schedule.gamma_0, x.dtype))
    return (twice - x) / spread


@jax.jit
def _bisected(gamma_0, gamma_1, t):
    """The γ up to which a share t of ∫α² dγ lies, for straight paths."""

    def antiderivative(gamma):
        e = jnp.exp(-gamma / 2)
        log_term = jnp.where(e <= _SMALL, e, jnp.log(1 + e))
        return log_term + jnp.where(e <= _SMALL, 1 - e, 1 / (1 + e))

    def passed(gamma):
        return -2 * (antiderivative(gamma) - antiderivative(gamma_0))

    wanted = passed(gamma_1) * t

    def halve(_, interval):
        low, high = interval
        middle = (low + high) / 2
        below = passed(middle) <= wanted
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    interval = jnp.full_like(t, gamma_0), jnp.full_like(t, gamma_1)
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, interval)
    return (low + high) / 2
