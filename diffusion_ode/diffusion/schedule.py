"""How time t ∈ [0, 1] runs over γ."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.calculus import derivative, integral, inverse
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Gamma

_DIFFERENCE_BELOW = 0.5  # a change of γ under which a difference of two loses digits in float32


class NoiseSchedule(abc.ABC):
    """A monotone γ(t) with its end points: γ(0) = gamma_0 (data) and γ(1) = gamma_1 (noise).

    The schedule decides which γ are drawn where times are uniform in t (`UniformTimes`), and the
    steps where there are steps (`DiscreteTimes`, `AncestralSampler`). The continuous bound and the
    ODE depend on its end points only. A schedule defines γ(t); its derivative and its changes
    follow, and one that knows a closed form gives it in the place of the method.
    """

    gamma_0: Gamma
    gamma_1: Gamma

    by_pixel: ClassVar[bool] = False
    """Whether pixels have a γ of their own, of which γ is then the clock: all agree at the ends."""

    def __post_init__(self):
        check_fields(self)
        if not self.gamma_0 < self.gamma_1:
            raise UserError(
                f"gamma_0 = {self.gamma_0} is not below gamma_1 = {self.gamma_1}: γ grows from data"
                " to noise, so give a smaller gamma_0 or a larger gamma_1."
            )

    @abc.abstractmethod
    def gamma(self, time: Float[Array, "..."]) -> Float[Array, "..."]: ...

    def derivative(self, time: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rate γ′(t)."""
        return derivative(self.gamma, time)

    def time(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The inverse t(γ)."""
        return inverse(self.gamma, gamma, 0.0, 1.0)

    def change(self, time: Float[Array, "..."], step: float) -> Float[Array, "..."]:
        """The change γ(t) − γ(t − step); a small one not by subtraction, which loses its digits."""
        difference = self.gamma(time) - self.gamma(time - step)
        small = integral(self.derivative, time - step, time)
        return jnp.where(difference < _DIFFERENCE_BELOW, small, difference)

    def check_times(self, times: Any) -> None:
        """Refuses times that weigh a whole image's step where pixels take one each.

        Raises:
          UserError: they are of another schedule.
        """
        if self.by_pixel and not getattr(times, "estimates_integral", True):
            raise UserError(
                f"model.schedule gives each pixel its own γ, and {type(times).__name__} weighs the"
                " steps of whole images: give importance_sampled_times(), or"
                " learned_monotone_schedule()."
            )

    def at_pixels(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The γ_i [b, h, w, c] of the pixels, or [b, 1, 1, 1] where they have none of their own."""
        return along_images(gamma)

    def pixel_rate(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rates dγ_i/dγ of the same form."""
        return jnp.ones_like(along_images(gamma))

    def pixel_change(
        self, gamma: Float[Array, "..."], change: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The changes of γ_i from γ − change to γ, of the same form."""
        return along_images(change)

    def network_time(self, gamma: Float[Array, "..."]) -> Float[Array, "..."]:
        """What the network is told: (γ − γ0)/(γ1 − γ0), whatever γ(t) does between.

        So the same parameters mean the same under every schedule with these ends, and a schedule
        that learns does not move the ground under the network.
        """
        return (gamma - self.gamma_0) / (self.gamma_1 - self.gamma_0)


@runtime_checkable
class ChecksSchedule(Protocol):
    """A path or a sampler of times that does not go with every schedule."""

    def check(self, schedule: NoiseSchedule) -> None:
        """Refuses, by a UserError, one between whose ends it has nothing to draw."""
        ...


def along_images(per_image):
    """From [b] to [b, 1, 1, 1], to stand beside images; scalars and images stay as they are."""
    return per_image[..., None, None, None] if jnp.ndim(per_image) == 1 else per_image


@dataclass(frozen=True)
class LinearSchedule(NoiseSchedule):
    """Linear: γ(t) = γ0 + (γ1 − γ0) t, fixed.

    Args:
      gamma_0: γ at the data end; −13.3 resolves the bins of 256 levels.
      gamma_1: γ at the noise end.

    Source: Zheng et al. 2023, arXiv:2305.03935, appendix H.
    """

    gamma_0: Gamma = -13.3
    gamma_1: Gamma = 5.0

    def gamma(self, time):
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * time

    def derivative(self, time):
        return jnp.full_like(time, self.gamma_1 - self.gamma_0)

    def time(self, gamma):
        return (gamma - self.gamma_0) / (self.gamma_1 - self.gamma_0)

    def change(self, time, step):
        return jnp.full_like(time, (self.gamma_1 - self.gamma_0) * step)
