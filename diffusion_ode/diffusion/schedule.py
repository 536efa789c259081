"""How time t ∈ [0, 1] runs over γ."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_ode.checking import check_finite
from diffusion_ode.errors import UserError


@runtime_checkable
class TimeSchedule(Protocol):
    """A monotone γ(t) with its end points: γ(0) = gamma_0 (data) and γ(1) = gamma_1 (noise)."""

    @property
    def gamma_0(self) -> float: ...

    @property
    def gamma_1(self) -> float: ...

    def gamma(self, time: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def time(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse of `gamma`; what the network is told."""
        ...

    def change(self, time: Float[Array, "..."], step: float) -> Float[Array, "..."]:
        """γ(t) − γ(t − step), not by subtraction: of a small step that would lose the digits."""
        ...


@dataclass(frozen=True)
class LinearSchedule:
    """γ(t) = γ0 + (γ1 − γ0) t, fixed.

    Args:
      gamma_0: γ at the data end; −13.3 resolves the bins of 256 levels.
      gamma_1: γ at the noise end.

    Source: Zheng et al. 2023, arXiv:2305.03935, appendix H.
    """

    gamma_0: float = -13.3
    gamma_1: float = 5.0

    def __post_init__(self):
        check_finite("gamma_0", self.gamma_0)
        check_finite("gamma_1", self.gamma_1)
        if not self.gamma_0 < self.gamma_1:
            raise UserError(
                f"gamma_0 = {self.gamma_0} is not below gamma_1 = {self.gamma_1}: γ grows from data"
                " to noise, so give a smaller gamma_0 or a larger gamma_1."
            )

    def gamma(self, time):
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * time

    def time(self, gamma):
        return (gamma - self.gamma_0) / (self.gamma_1 - self.gamma_0)

    def change(self, time, step):
        return jnp.full_like(time, (self.gamma_1 - self.gamma_0) * step)
