"""The variable along which the probability-flow ODE is solved."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_ode.diffusion.path import Path


@runtime_checkable
class IntegrationVariable(Protocol):
    """A monotone s(γ). The likelihood may not depend on it beyond the solver's tolerance."""

    def value(self, path: Path, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The variable s(γ)."""
        ...

    def gamma(self, path: Path, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse γ(s)."""
        ...

    def gamma_derivative(self, path: Path, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rate dγ/ds at γ."""
        ...


@dataclass(frozen=True)
class LogSnrVariable:
    """Along s = γ, minus the log signal-to-noise ratio."""

    def value(self, path, gamma):
        del path
        return gamma

    def gamma(self, path, value):
        del path
        return value

    def gamma_derivative(self, path, gamma):
        del path
        return jnp.ones_like(gamma)


@dataclass(frozen=True)
class NaturalVariable:
    """The path's natural time τ, dz/dτ = cF: φ = arctan e^{γ/2} for VP, σ for SP and VE."""

    def value(self, path, gamma):
        return path.natural_time(gamma)

    def gamma(self, path, value):
        return path.gamma_of_natural_time(value)

    def gamma_derivative(self, path, gamma):
        return 1.0 / path.natural_time_derivative(gamma)


@dataclass(frozen=True)
class ImportanceVariable:
    """Along s = −S(γ), dS/dγ = −α²: equal steps are equal shares of importance sampling."""

    def value(self, path, gamma):
        return -path.signal_remaining(gamma)

    def gamma(self, path, value):
        return path.gamma_of_signal_remaining(-value)

    def gamma_derivative(self, path, gamma):
        return jnp.exp(-2.0 * path.log_alpha(gamma))
