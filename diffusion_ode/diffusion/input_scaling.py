"""How large z is made before the network sees it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.path import Path
from diffusion_ode.ranges import Positive
from diffusion_ode.typing import PerImage


@runtime_checkable
class InputScaling(Protocol):
    """A factor c_in(γ): the network is given c_in z, in which the noise has the size c_in σ."""

    def factor(self, path: Path, gamma: PerImage) -> PerImage: ...


@dataclass(frozen=True)
class AsItIs:
    """The noised image itself: c_in = 1."""

    def factor(self, path, gamma):
        del path
        return jnp.ones_like(gamma)


@dataclass(frozen=True)
class UnitVariance:
    """To variance one: c_in = 1/√(α²σ_d² + σ²).

    For a path on which z grows, as on the variance-exploding one: to ±300 at σ = 100.

    Args:
      data_deviation: σ_d, of the encoded data.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """

    data_deviation: Positive = 0.5

    __post_init__ = check_fields

    def factor(self, path, gamma):
        return jax.lax.rsqrt(
            jnp.square(path.alpha(gamma) * self.data_deviation) + jnp.square(path.sigma(gamma))
        )
