"""Integrates many initial value problems side by side, each with its own time and step.

The unit of work is one evaluation of the vector field, not one step. A lane (one solve under way)
knows which stage of its step comes next; `Integrator.advance` evaluates the field once for all
lanes, each at its own time and stage, and every lane draws its own conclusion. Hence
  - the network is compiled once, not once per stage: an executable that holds a whole step of
    Dormand–Prince 8 holds twelve networks (24 convolutions with normalisation, forward mode,
    compiled on a CPU: the field alone 2.1 s, this 3.2 s, a step of Dormand–Prince 5 16.9 s);
  - a lane that is refilled makes its first two evaluations, and one that has rejected a step starts
    again, while the others go on: no lane ever waits for another to end its step.
The price is a pass over the stored slopes per evaluation, little beside a network.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import (
    Mask,
    PerLane,
    State,
    all_finite,
    select,
)
from diffusion_ode.solvers.lane_state import LaneState, Memory, Outcome
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import (
    SMALLEST_REMEMBERED_ERROR,
    AdaptiveController,
    Decision,
    StepController,
    judged_by_state,
)
from diffusion_ode.solvers.vector_field import Context, VectorField

# A step must move the time by at least this many units in the last place.
_SMALLEST_STEP_IN_ULPS = 4.0


class Slope(NamedTuple):
    """The derivatives dz/ds [lanes, *shape] and dell/ds [lanes] at one time."""

    z: State
    ell: PerLane


@dataclass(frozen=True)
class Integrator(ABC):
    """A vector field, a method and a step controller: all that is compiled.

    Each kind of method says in a subclass how its steps are made; here is what they have in common.
    It is a pytree whose leaves are the controller's numbers.

    Attributes:
      vector_field: see VectorField.
      solver: the method.
      controller: PIController or FixedSteps.
      sharding: of every array's lane axis, or None.
    """

    vector_field: VectorField
    solver: Solver
    controller: StepController
    sharding: jax.sharding.Sharding | None = None

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_dataclass(
            cls, ["controller"], ["vector_field", "solver", "sharding"]
        )

    @abstractmethod
    def fresh_memory(self, z: State) -> Memory:
        """What a method knows that has evaluated nothing yet; z is [lanes, *shape]."""

    @abstractmethod
    def advance(self, state: LaneState, args: Any) -> LaneState:
        """One evaluation of the vector field in every lane, and what follows from it. Pure."""

    def start(
        self,
        z: State,
        ell: PerLane,
        context: Context,
        start: PerLane,
        end: PerLane,
        filled: Mask,
    ) -> LaneState:
        """Fresh solves from z [lanes, *shape] and ell [lanes] over [start, end] [lanes].

        Lanes where the mask `filled` does not hold are idle.
        """
        lanes = z.shape[0]
        z, context = jax.tree.map(partial(jnp.array, copy=True), (z, context))  # to be donated
        count = jnp.zeros(lanes, jnp.int32)
        real = jnp.zeros(lanes, z.dtype)
        size = real  # not known yet
        given = getattr(self.controller, "initial_step", None)
        if given is not None:
            size = jnp.minimum(real + given, jnp.abs(end - start))
        state = LaneState(
            z=z,
            ell=ell.astype(z.dtype),
            s=start,
            s_next=self.controller.next_time(start, size, start, end, count),
            start=start,
            end=end,
            size=size,
            memory=self.fresh_memory(z),
            stage=count,
            remembered_error=real + SMALLEST_REMEMBERED_ERROR,
            after_rejection=jnp.zeros(lanes, bool),
            nfe=count,
            accepted=count,
            rejected=count,
            outcome=jnp.where(filled, jnp.int32(Outcome.RUNNING), jnp.int32(Outcome.IDLE)),
            context=context,
        )
        return self._placed(state)

    def refill(self, state: LaneState, fresh: LaneState, emptied: Mask) -> LaneState:
        """Takes `fresh` in the lanes of the mask `emptied` [lanes], `state` in the others."""
        return self._placed(jax.tree.map(lambda new, old: select(emptied, new, old), fresh, state))

    def release(self, state: LaneState) -> LaneState:
        """Makes the lanes that have ended idle."""
        running = state.outcome == Outcome.RUNNING
        outcome = jnp.where(running, state.outcome, jnp.int32(Outcome.IDLE))
        return self._placed(replace(state, outcome=outcome))

    def _slope(self, state: LaneState, args: Any, s: PerLane, z: State) -> Slope:
        """The field there, in the state's own type."""
        dz, dell = self.vector_field(args, s, z, state.context)
        dell = jnp.zeros_like(state.ell) if dell is None else dell
        return Slope(dz.astype(state.z.dtype), dell.astype(state.z.dtype))

    def _look_ahead(
        self,
        state: LaneState,
        controller: AdaptiveController,
        lanes: Mask,
        here: Slope,
        stage: int,
    ) -> LaneState:
        """Sends lanes to the stage that evaluates the field once before the first step."""
        guess = controller.first_guess(
            state.z, here.z, jnp.abs(state.end - state.start), self._unit(state.s)
        )
        guess = jnp.maximum(guess, _smallest_step(state))
        ahead = state.s + jnp.sign(state.end - state.start) * guess
        return replace(
            state,
            s_next=jnp.where(lanes, ahead, state.s_next),
            stage=jnp.where(lanes, jnp.int32(stage), state.stage),
        )

    def _size_first_step(
        self,
        state: LaneState,
        controller: AdaptiveController,
        lanes: Mask,
        here: Slope,
        ahead: Slope,
        error_order: int,
    ) -> LaneState:
        guess = jnp.abs(state.s_next - state.s)
        size = controller.first_size(
            state.z,
            here.z,
            ahead.z,
            here.ell,
            ahead.ell,
            guess,
            error_order,
            self._unit(state.s),
        )
        size = jnp.where(jnp.isfinite(size), size, guess)
        size = jnp.clip(size, _smallest_step(state), jnp.abs(state.end - state.start))
        s_next = controller.next_time(state.s, size, state.start, state.end, state.accepted)
        return replace(
            state,
            size=jnp.where(lanes, size, state.size),
            s_next=jnp.where(lanes, s_next, state.s_next),
        )

    def _conclude(
        self,
        state: LaneState,
        ended: Mask,
        decision: Decision,
        z_new: State,
        ell_new: PerLane,
        finite: Mask,
    ) -> tuple[LaneState, Mask]:
        """What a decision means for all but the memory; and the lanes whose step is accepted."""
        accept = ended & decision.accept
        reject = ended & ~decision.accept
        s = jnp.where(accept, state.s_next, state.s)
        accepted = state.accepted + accept.astype(jnp.int32)
        rejected = state.rejected + reject.astype(jnp.int32)

        controller = self.controller
        finished = accept & (s == state.end)
        exhausted = accepted + rejected >= controller.max_attempts
        outcome = jnp.where(exhausted, jnp.int32(Outcome.OUT_OF_STEPS), jnp.int32(Outcome.RUNNING))
        if isinstance(controller, AdaptiveController):
            stuck = decision.size < _smallest_step(state)
            outcome = jnp.where(stuck, jnp.int32(Outcome.STEP_TOO_SMALL), outcome)
            outcome = jnp.where(stuck & ~finite, jnp.int32(Outcome.NOT_FINITE), outcome)
        else:
            outcome = jnp.where(finite, outcome, jnp.int32(Outcome.NOT_FINITE))
        outcome = jnp.where(finished, jnp.int32(Outcome.CONVERGED), outcome)

        s_next = controller.next_time(s, decision.size, state.start, state.end, accepted)
        state = replace(
            state,
            z=select(accept, z_new, state.z),
            ell=jnp.where(accept, ell_new, state.ell),
            s=s,
            s_next=jnp.where(ended, s_next, state.s_next),
            size=jnp.where(ended, decision.size, state.size),
            remembered_error=jnp.where(ended, decision.remembered_error, state.remembered_error),
            after_rejection=jnp.where(ended, reject, state.after_rejection),
            accepted=accepted,
            rejected=rejected,
            outcome=jnp.where(ended, outcome, state.outcome),
        )
        return state, accept

    def _without_broken(self, state: LaneState, begun: Mask, here: Slope) -> LaneState:
        """Ends lanes without a finite slope at a step's start: no shorter step can mend that."""
        finite = all_finite(here.z) & jnp.isfinite(here.ell)
        broken = jnp.int32(Outcome.NOT_FINITE)
        return replace(state, outcome=jnp.where(begun & ~finite, broken, state.outcome))

    def _unit(self, s: PerLane) -> PerLane:
        """The length of z that matters at s, by the vector field."""
        unit = getattr(self.vector_field, "unit", None)
        return jnp.ones_like(s) if unit is None else unit(s)

    def _placed(self, state: LaneState) -> LaneState:
        if self.sharding is None:
            return state
        return jax.lax.with_sharding_constraint(state, self.sharding)


def integrator_of(
    solver: Solver,
    vector_field: VectorField,
    controller: StepController,
    sharding: jax.sharding.Sharding | None = None,
) -> Integrator:
    """The method's, whose controller sees no more of dell/ds than the field wants to be judged."""
    if getattr(vector_field, "rough_trace", False):
        controller = judged_by_state(controller)
    return solver.integrator(vector_field, controller, sharding)


def _smallest_step(state: LaneState) -> PerLane:
    scale = jnp.maximum(jnp.abs(state.s), jnp.abs(state.end - state.start))
    return _SMALLEST_STEP_IN_ULPS * jnp.finfo(state.s.dtype).eps * scale
