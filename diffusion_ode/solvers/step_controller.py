"""What the integrator asks of whatever chooses its steps.

Everything is per lane: an array [lanes] holds one number for each solve under way.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import Count, Mask, PerLane, State
from diffusion_ode.solvers.solver import Solver

# DOPRI5's initial value for "the error of the step before".
SMALLEST_REMEMBERED_ERROR = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Decision:
    """What a controller makes of an attempted step; arrays [lanes]."""

    accept: Mask
    size: PerLane
    remembered_error: PerLane


@runtime_checkable
class StepController(Protocol):
    """Chooses steps. `size` is always positive; the direction is that from start to end."""

    def tightened(self, factor: float, order: int) -> "StepController":
        """One with which a method of that order errs about `factor` times as much as with this."""
        ...

    @property
    def max_attempts(self) -> int | jax.Array:
        """Accepted and rejected steps after which a lane is given up."""
        ...

    def check(self, solver: Solver, dtype: jnp.dtype) -> None:
        """Raises UserError if this controller cannot drive that method at that precision."""
        ...

    def next_time(
        self,
        s: PerLane,
        size: PerLane,
        start: PerLane,
        end: PerLane,
        accepted: Count,
    ) -> PerLane:
        """Where the step from s leads; exactly `end` for the last one."""
        ...


@runtime_checkable
class AdaptiveController(StepController, Protocol):
    """One that judges steps by their error; see PIController for what each method means."""

    @property
    def initial_step(self) -> float | jax.Array | None: ...

    def error(
        self,
        z: State,
        z_new: State,
        z_error: State,
        z_error_low: State | None,
        ell_error: PerLane,
        ell_error_low: PerLane | None,
        unit: PerLane,
    ) -> PerLane: ...

    def decide(
        self,
        error: PerLane,
        remembered_error: PerLane,
        size: PerLane,
        after_rejection: Mask,
        error_order: int | PerLane,
    ) -> Decision: ...

    def first_guess(self, z: State, dz: State, span: PerLane, unit: PerLane) -> PerLane: ...

    def first_size(
        self,
        z: State,
        dz: State,
        dz_there: State,
        dell: PerLane,
        dell_there: PerLane,
        guess: PerLane,
        error_order: int,
        unit: PerLane,
    ) -> PerLane: ...
