"""What every path from data to noise can say of itself."""

import abc
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_ode.diffusion.calculus import derivative, integral, inverse

_FARTHEST = 50.0  # |γ| beyond which nothing of float32 is left: e^−50, and e^−25 for α and σ


class Path(abc.ABC):
    """A Gaussian path z = α(γ) x + σ(γ) ε, indexed by γ = log(σ²/α²).

    γ is minus the logarithm of the signal-to-noise ratio; every method takes any shape of it and is
    accurate in float32 over γ ∈ [−20, 20], which rules out forming 1 − σ or 1/σ² − 1.

    A path says log α and log σ, two forms of one thing, 2 (log σ − log α) = γ, each exact where the
    other has lost its digits. All else follows, by automatic differentiation and quadrature; a path
    that knows a closed form gives it in the place of the method.

    Its velocity F is what multiplies nothing but itself in the probability flow, dz/dγ = ½cασF,
    with a constant c, `velocity_gain`, that sets its scale. Hence ε = cαF + sz with the skip
    s = −2 (d log α/dγ)/σ, and with the offset k = 2 (d log σ/dγ)/(cα) it is F = kε − (s/c) x.
    """

    velocity_gain: ClassVar[float] = 1.0
    """The constant c in ε = cαF + sz."""

    @abc.abstractmethod
    def log_alpha(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]: ...

    @abc.abstractmethod
    def log_sigma(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def alpha(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The factor of the data."""
        return jnp.exp(self.log_alpha(gamma))

    def sigma(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The factor of the noise."""
        return jnp.exp(self.log_sigma(gamma))

    def log_alpha_derivative(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rate d log α/dγ = −½σs."""
        return derivative(self.log_alpha, gamma)

    def log_sigma_derivative(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rate d log σ/dγ = ½ + d log α/dγ."""
        return derivative(self.log_sigma, gamma)

    def velocity_skip(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The skip s in ε = cαF + sz."""
        return -2.0 * self.log_alpha_derivative(gamma) * jnp.exp(-self.log_sigma(gamma))

    def velocity_trace_offset(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The offset k = (1 − σs)/(cα).

        It is what σ tr ∂F/∂z would be per dimension if F were matched exactly.
        """
        scale = 2.0 / self.velocity_gain * jnp.exp(-self.log_alpha(gamma))
        return scale * self.log_sigma_derivative(gamma)

    def velocity(
        self, gamma: Float[Array, "..."], x: Float[Array, "..."], noise: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The velocity F from (x, ε): this form does not divide by α, the one from (z, ε) does."""
        skip = self.velocity_skip(gamma) / self.velocity_gain
        return self.velocity_trace_offset(gamma) * noise - skip * x

    def natural_time(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The variable τ in which the velocity ODE is dz/dτ = cF: ∫ ½ασ dγ from the data."""
        return integral(self.natural_time_derivative, jnp.full_like(gamma, -_FARTHEST), gamma)

    def gamma_of_natural_time(self, time: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse of `natural_time`."""
        return inverse(self.natural_time, time, -_FARTHEST, _FARTHEST)

    def natural_time_derivative(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rate dτ/dγ = ½ασ."""
        return 0.5 * jnp.exp(self.log_alpha(gamma) + self.log_sigma(gamma))

    def signal_remaining(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """A decreasing S(γ) with S(γ) − S(γ′) = ∫ α² from γ to γ′: importance sampling's weight.

        Where the integral has a limit towards the noise it is best taken from there, so that S
        keeps its digits near zero; elsewhere any constant will do.
        """
        return integral(
            lambda g: jnp.exp(2.0 * self.log_alpha(g)), gamma, jnp.full_like(gamma, _FARTHEST)
        )

    def gamma_of_signal_remaining(self, signal: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse of `signal_remaining`."""
        return inverse(lambda g: -self.signal_remaining(g), -signal, -_FARTHEST, _FARTHEST)
