"""A fixed number of steps.

It is an input of compiled code: changing it compiles nothing.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.ranges import Count
from diffusion_ode.solvers.arrays import traced_fields
from diffusion_ode.solvers.solver import Solver


@traced_fields
@dataclass(frozen=True)
class FixedSteps:
    """Equal steps, as many as are asked for, whatever the error."""

    steps: Count

    __post_init__ = check_fields

    def tightened(self, factor: float, order: int) -> "FixedSteps":
        """More steps: the error falls as their number to the power of the order."""
        return FixedSteps(math.ceil(self.steps * factor ** (-1.0 / order)))

    @property
    def max_attempts(self) -> int | jax.Array:
        return self.steps

    def check(self, solver: Solver, dtype: jnp.dtype) -> None:
        del solver, dtype

    def next_time(self, s, size, start, end, accepted):
        del s, size  # times come from the count, so that rounding does not add up
        done = (accepted + 1).astype(end.dtype) / self.steps
        return jnp.where(accepted + 1 >= self.steps, end, start + (end - start) * done)
