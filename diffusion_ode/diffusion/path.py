"""What every path from data to noise can say of itself."""

from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Array, Float


@runtime_checkable
class Path(Protocol):
    """A Gaussian path z = α(γ) x + σ(γ) ε, indexed by γ = log(σ²/α²).

    γ is minus the logarithm of the signal-to-noise ratio; every method takes any shape of it and is
    accurate in float32 over γ ∈ [−20, 20], which rules out forming 1 − σ or 1/σ² − 1.

    A path also defines its velocity F, the combination of ε and x that moves least along the
    probability flow. Two facts about it suffice for all that is built on top:
    ε = c α F + s(γ) z, where the constant c is `velocity_gain` and s is `velocity_skip`.
    """

    velocity_gain: ClassVar[float]
    """c in ε = c α F + s z."""

    def log_alpha(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def log_sigma(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def alpha(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def sigma(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def log_alpha_derivative(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """D log α / dγ = −½ σ s."""
        ...

    def log_sigma_derivative(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """D log σ / dγ = ½ + d log α / dγ."""
        ...

    def velocity_skip(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """S in ε = c α F + s z."""
        ...

    def velocity(
        self, gamma: Float[Array, "..."], x: Float[Array, "..."], noise: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """F from (x, ε): this form does not divide by α, the one from (z, ε) does."""
        ...

    def velocity_trace_offset(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """(1 − σ s) / (c α), what σ tr ∂F/∂z would be per dimension if F were matched exactly."""
        ...

    def natural_time(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The variable in which the velocity ODE has a constant coefficient."""
        ...

    def gamma_of_natural_time(self, time: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse of `natural_time`."""
        ...

    def natural_time_derivative(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """D natural time / dγ."""
        ...

    def signal_remaining(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """S(γ) = ∫_γ^∞ α² dγ′: decreasing, the cumulative weight of importance sampling."""
        ...

    def gamma_of_signal_remaining(self, signal: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse of `signal_remaining`."""
        ...
