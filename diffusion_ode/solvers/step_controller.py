"""What the integrator asks of whatever chooses its steps.

Everything is per lane: an array [lanes] holds one number for each solve under way.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import Count, Mask, PerLane, State, traced_fields
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


@traced_fields
@dataclass(frozen=True)
class JudgedByState:
    """Another controller, which is told that dell/ds and its error are zero."""

    controller: AdaptiveController

    @property
    def initial_step(self) -> float | jax.Array | None:
        return self.controller.initial_step

    @property
    def max_attempts(self) -> int | jax.Array:
        return self.controller.max_attempts

    def tightened(self, factor: float, order: int) -> "StepController":
        return judged_by_state(self.controller.tightened(factor, order))

    def check(self, solver: Solver, dtype: jnp.dtype) -> None:
        self.controller.check(solver, dtype)

    def next_time(self, s, size, start, end, accepted):
        return self.controller.next_time(s, size, start, end, accepted)

    def error(self, z, z_new, z_error, z_error_low, ell_error, ell_error_low, unit):
        low = None if ell_error_low is None else jnp.zeros_like(ell_error_low)
        nothing = jnp.zeros_like(ell_error)
        return self.controller.error(z, z_new, z_error, z_error_low, nothing, low, unit)

    def decide(self, error, remembered_error, size, after_rejection, error_order):
        return self.controller.decide(error, remembered_error, size, after_rejection, error_order)

    def first_guess(self, z, dz, span, unit):
        return self.controller.first_guess(z, dz, span, unit)

    def first_size(self, z, dz, dz_there, dell, dell_there, guess, error_order, unit):
        nothing = jnp.zeros_like(dell)
        return self.controller.first_size(
            z, dz, dz_there, nothing, nothing, guess, error_order, unit
        )


def judged_by_state(controller: StepController) -> StepController:
    """One whose steps do not depend on ell: what does not judge steps by errors is one already."""
    if isinstance(controller, AdaptiveController) and not isinstance(controller, JudgedByState):
        return JudgedByState(controller)
    return controller
