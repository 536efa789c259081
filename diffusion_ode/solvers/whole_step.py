"""Methods that say in a few lines how a whole step is made."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import PerLane, State, all_finite, expand, select
from diffusion_ode.solvers.integrator import Integrator
from diffusion_ode.solvers.lane_state import LaneState, Memory, Outcome
from diffusion_ode.solvers.step_controller import Decision, StepController
from diffusion_ode.solvers.vector_field import Context, VectorField


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AugmentedState:
    """State z and log-density, or their slopes, as one vector: a + b, and weight * a by lane.

    Attributes:
      z: [lanes, *shape]
      ell: nats. [lanes]
    """

    z: State
    ell: PerLane

    def __add__(self, other: "AugmentedState") -> "AugmentedState":
        return AugmentedState(self.z + other.z, self.ell + other.ell)

    def __rmul__(self, weight: PerLane | float) -> "AugmentedState":
        weight = jnp.asarray(weight, self.ell.dtype)
        return AugmentedState(expand(weight, self.z.ndim) * self.z, weight * self.ell)


class Step(NamedTuple):
    """What a step leads to, and what the method wants to know in its next one."""

    state: AugmentedState
    memory: Memory = ()


class WholeStepMethod(ABC):
    """A method that makes a step at a time.

    Euler's, for one, is

        def step(self, field, s, s_next, state, memory):
            return Step(state + (s_next - s) * field(s, state))

    All evaluations of a step are compiled into one program, and it estimates no error. (Where a
    network takes long to compile, a method of many stages is better off as a RungeKutta.)

    Attributes:
      name: for messages and figures.
      convergence_order: the error at the end falls as the steps' length to this power.
    """

    name: str
    convergence_order: int
    estimates_errors: bool = False

    def fresh_memory(self, z: State) -> Memory:
        """What the first step is told, for states z [lanes, *shape]; leaves have lanes first."""
        del z
        return ()

    @abstractmethod
    def step(
        self, field: "FieldOfStep", s: PerLane, s_next: PerLane, state: AugmentedState, memory: Any
    ) -> Step:
        """From s to s_next [lanes], which may lie in either direction.

        Args:
          field: field(s, state) is the slope there.
          s, s_next: start and end.
          state: at s.
          memory: what the step before wanted to be known.
        """

    def integrator(
        self,
        vector_field: VectorField,
        controller: StepController,
        sharding: jax.sharding.Sharding | None = None,
    ) -> Integrator:
        return WholeStepIntegrator(vector_field, self, controller, sharding)


class FieldOfStep:
    """The vector field as a step sees it. Counts how often it is evaluated while being traced.

    Attributes:
      vector_field: itself.
      evaluations: so far.
    """

    def __init__(self, vector_field: VectorField, args: Any, context: Context):
        self.vector_field: Any = vector_field
        self.evaluations = 0
        self._args, self._context = args, context

    def __call__(self, s: PerLane, state: AugmentedState) -> AugmentedState:
        """The slope at s [lanes]."""
        dz, dell = self._evaluated(self.vector_field, s, state)
        return AugmentedState(dz, jnp.zeros_like(state.ell) if dell is None else dell)

    def nonlinear(self, s: PerLane, state: AugmentedState) -> tuple[State, PerLane | None]:
        """The field's x and its trace; see SemilinearField."""
        return self._evaluated(self.vector_field.nonlinear, s, state)

    def _evaluated(self, function: VectorField, s: PerLane, state: AugmentedState):
        self.evaluations += 1
        value, trace = function(self._args, s, state.z, self._context)
        dtype = state.z.dtype
        return value.astype(dtype), None if trace is None else trace.astype(dtype)


class WholeStepIntegrator(Integrator):
    """An Integrator that makes a whole step of every lane at once."""

    solver: WholeStepMethod

    def fresh_memory(self, z: State) -> Memory:
        return self.solver.fresh_memory(z)

    def advance(self, state: LaneState, args: Any) -> LaneState:
        running = state.outcome == Outcome.RUNNING
        field = FieldOfStep(self.vector_field, args, state.context)
        before = AugmentedState(state.z, state.ell)
        new, memory = self.solver.step(field, state.s, state.s_next, before, state.memory)
        finite = all_finite(new.z) & jnp.isfinite(new.ell)
        spent = jnp.where(running, jnp.int32(field.evaluations), jnp.int32(0))
        state = replace(state, nfe=state.nfe + spent)
        decision = Decision(finite, state.size, state.remembered_error)
        state, accept = self._conclude(state, running, decision, new.z, new.ell, finite)
        kept = jax.tree.map(lambda new, old: select(accept, new, old), memory, state.memory)
        return self._placed(replace(state, memory=kept))
