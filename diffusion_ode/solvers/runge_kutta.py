"""Runge–Kutta methods, and their integrator; see `integrator` for how lanes go on side by side."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import (
    Mask,
    Slopes,
    State,
    Weights,
    all_finite,
    constant,
    expand,
    select,
    weighted_sum,
)
from diffusion_ode.solvers.integrator import Integrator, Slope
from diffusion_ode.solvers.lane_state import LaneState, Outcome
from diffusion_ode.solvers.step_controller import AdaptiveController, Decision, StepController
from diffusion_ode.solvers.tableau import Row, Tableau
from diffusion_ode.solvers.vector_field import VectorField


class RungeKutta:
    """A method that is its tableau: see `heun` for one.

    Attributes:
      tableau: of the class.
    """

    tableau: ClassVar[Tableau]

    @property
    def name(self) -> str:
        return self.tableau.name

    @property
    def convergence_order(self) -> int:
        return self.tableau.order

    @property
    def estimates_errors(self) -> bool:
        return self.tableau.b_error is not None

    def integrator(
        self,
        vector_field: VectorField,
        controller: StepController,
        sharding: jax.sharding.Sharding | None = None,
    ) -> Integrator:
        return RungeKuttaIntegrator(vector_field, self, controller, sharding)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stages:
    """The slopes at the stages of the step under way.

    Attributes:
      slopes: dz/ds. [lanes, stages, *shape]
      ell_slopes: dell/ds. [lanes, stages]
    """

    slopes: Slopes
    ell_slopes: Weights

    def at(self, stage: int) -> Slope:
        return Slope(self.slopes[:, stage], self.ell_slopes[:, stage])


class RungeKuttaIntegrator(Integrator):
    """An Integrator whose lanes remember the slopes of the stages of their step, and nothing more.

    Each lane is at a stage of its own; the look ahead, which sizes the first step, is one stage
    more.
    """

    solver: RungeKutta

    def fresh_memory(self, z: State) -> Stages:
        lanes, stages = z.shape[0], self.solver.tableau.stages
        return Stages(
            slopes=jnp.zeros((lanes, stages, *z.shape[1:]), z.dtype),
            ell_slopes=jnp.zeros((lanes, stages), z.dtype),
        )

    def advance(self, state: LaneState, args: Any) -> LaneState:
        stages = self.solver.tableau.stages
        running = state.outcome == Outcome.RUNNING
        begun = running & (state.stage == 0)
        looked = running & (state.stage == stages)
        ended = running & (state.stage == stages - 1)
        state = self._evaluate(state, args, running)
        if isinstance(self.controller, AdaptiveController):
            unsized = begun & (state.size == 0)
            here = state.memory.at(0)
            state = self._look_ahead(state, self.controller, unsized, here, stages)
            state = self._size_first_step(
                state,
                self.controller,
                looked,
                here,
                state.memory.at(1),
                _error_order(self.solver.tableau),
            )
        state = self._end_step(state, ended)
        return self._placed(self._without_broken(state, begun, state.memory.at(0)))

    def _evaluate(self, state: LaneState, args: Any, running: Mask) -> LaneState:
        tableau, dtype = self.solver.tableau, state.z.dtype
        step = state.s_next - state.s
        abscissa = constant([*tableau.c, 1.0], dtype)[state.stage]
        s = jnp.where(abscissa == 1, state.s_next, state.s + abscissa * step)
        weights = constant(_padded_rows(tableau), dtype)[state.stage]
        known = state.memory
        change = expand(step, state.z.ndim) * weighted_sum(weights, known.slopes)
        slope = self._slope(state, args, s, state.z + change)
        # The look ahead is kept as the second stage, which is evaluated again before use.
        kept_as = jnp.where(state.stage == tableau.stages, 1, state.stage)
        here = kept_as[:, None] == jnp.arange(tableau.stages, dtype=jnp.int32)[None]
        here &= running[:, None]
        following = jnp.where(state.stage == tableau.stages, 1, state.stage + 1)
        return replace(
            state,
            memory=Stages(
                jnp.where(expand(here, known.slopes.ndim), slope.z[:, None], known.slopes),
                jnp.where(here, slope.ell[:, None], known.ell_slopes),
            ),
            stage=jnp.where(running, following, state.stage),
            nfe=state.nfe + running.astype(jnp.int32),
        )

    def _end_step(self, state: LaneState, ended: Mask) -> LaneState:
        """Where a step's last stage is known: accept or reject it and plan the next attempt."""
        tableau, controller = self.solver.tableau, self.controller
        slopes, ell_slopes = state.memory.slopes, state.memory.ell_slopes
        z_new = state.z + self._combined(tableau.b, state, slopes)
        ell_new = state.ell + self._combined(tableau.b, state, ell_slopes)
        finite = all_finite(z_new) & jnp.isfinite(ell_new)
        if isinstance(controller, AdaptiveController):
            decision = self._judge(state, controller, z_new, finite)
        else:
            decision = Decision(finite, state.size, state.remembered_error)
        state, accept = self._conclude(state, ended, decision, z_new, ell_new, finite)
        if tableau.fsal:
            slopes = slopes.at[:, 0].set(select(accept, slopes[:, -1], slopes[:, 0]))
            ell_slopes = ell_slopes.at[:, 0].set(
                jnp.where(accept, ell_slopes[:, -1], ell_slopes[:, 0])
            )
        # A rejected step keeps its first slope; an accepted one has the next's only with fsal.
        restart = jnp.where(accept, jnp.int32(1 if tableau.fsal else 0), jnp.int32(1))
        return replace(
            state,
            memory=Stages(slopes, ell_slopes),
            stage=jnp.where(ended, restart, state.stage),
        )

    def _judge(
        self,
        state: LaneState,
        controller: AdaptiveController,
        z_new: State,
        finite: Mask,
    ) -> Decision:
        tableau = self.solver.tableau
        low, slopes, ell_slopes = tableau.b_error_low, state.memory.slopes, state.memory.ell_slopes
        error = controller.error(
            state.z,
            z_new,
            self._combined(tableau.b_error, state, slopes),
            None if low is None else self._combined(low, state, slopes),
            self._combined(tableau.b_error, state, ell_slopes),
            None if low is None else self._combined(low, state, ell_slopes),
            self._unit(state.s),
        )
        return controller.decide(
            jnp.where(finite, error, jnp.nan),
            state.remembered_error,
            jnp.abs(state.s_next - state.s),
            state.after_rejection,
            _error_order(tableau),
        )

    def _combined(self, weights: Row | None, state: LaneState, slopes: Slopes) -> State:
        """Step size times the weighted slopes."""
        assert weights is not None  # the controller has refused such a method
        row = constant(weights, slopes.dtype)[None]
        total = weighted_sum(jnp.broadcast_to(row, slopes.shape[:2]), slopes)
        return expand(state.s_next - state.s, total.ndim) * total


def _padded_rows(tableau: Tableau) -> list[list[float]]:
    """The rows of a, padded to squares, and below them that of the look ahead: an Euler step."""
    rows = [*tableau.a, (1.0,)]
    return [[*row, *[0.0] * (tableau.stages - len(row))] for row in rows]


def _error_order(tableau: Tableau) -> int:
    assert tableau.error_order is not None  # the controller has refused such a method
    return tableau.error_order
