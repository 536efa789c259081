"""Integrates with Runge–Kutta methods; see `integrator` for how lanes go on side by side."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.arrays import (
    Mask,
    Slopes,
    State,
    all_finite,
    constant,
    expand,
    select,
    weighted_sum,
)
from diffusion_ode.solvers.integrator import Integrator
from diffusion_ode.solvers.lane_state import LaneState, Outcome
from diffusion_ode.solvers.step_controller import AdaptiveController, Decision
from diffusion_ode.solvers.tableau import Row, RungeKutta, Tableau


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["controller"],
    meta_fields=["vector_field", "solver", "sharding"],
)
@dataclass(frozen=True)
class OneStepIntegrator(Integrator):
    """An Integrator whose lanes remember the slopes of the stages of their step, and nothing more.

    Each lane is at a stage of its own; the look ahead, which sizes the first step, is one stage
    more.
    """

    solver: RungeKutta  # type: ignore[assignment]

    @property
    def slots(self) -> int:
        return self.solver.tableau.stages

    @property
    def remembers_times(self) -> bool:
        return False

    def advance(self, state: LaneState, args: Any) -> LaneState:
        stages = self.solver.tableau.stages
        running = state.outcome == Outcome.RUNNING
        begun = running & (state.stage == 0)
        looked = running & (state.stage == stages)
        ended = running & (state.stage == stages - 1)
        state = self._evaluate(state, args, running)
        if isinstance(self.controller, AdaptiveController):
            unsized = begun & (state.size == 0)
            state = self._look_ahead(state, self.controller, unsized, stages)
            state = self._size_first_step(
                state,
                self.controller,
                looked,
                (state.slopes[:, 1], state.ell_slopes[:, 1]),
                _error_order(self.solver.tableau),
            )
        state = self._end_step(state, ended)
        return self._placed(self._without_broken(state, begun))

    def _evaluate(self, state: LaneState, args: Any, running: Mask) -> LaneState:
        tableau, dtype = self.solver.tableau, state.z.dtype
        step = state.s_next - state.s
        abscissa = constant([*tableau.c, 1.0], dtype)[state.stage]
        s = jnp.where(abscissa == 1, state.s_next, state.s + abscissa * step)
        weights = constant(_padded_rows(tableau), dtype)[state.stage]
        change = expand(step, state.z.ndim) * weighted_sum(weights, state.slopes)
        slope, ell_slope = self.vector_field(args, s, state.z + change, state.context)
        if ell_slope is None:
            ell_slope = jnp.zeros_like(state.ell)
        # The look ahead borrows the slot of the second stage, which is written again before use.
        slot = jnp.where(state.stage == tableau.stages, 1, state.stage)
        here = (slot[:, None] == jnp.arange(tableau.stages, dtype=jnp.int32)[None]) & running[
            :, None
        ]
        following = jnp.where(state.stage == tableau.stages, 1, state.stage + 1)
        return replace(
            state,
            slopes=jnp.where(
                expand(here, state.slopes.ndim), slope[:, None].astype(dtype), state.slopes
            ),
            ell_slopes=jnp.where(here, ell_slope[:, None].astype(dtype), state.ell_slopes),
            stage=jnp.where(running, following, state.stage),
            nfe=state.nfe + running.astype(jnp.int32),
        )

    def _end_step(self, state: LaneState, ended: Mask) -> LaneState:
        """Where a step's last stage is known: accept or reject it and plan the next attempt."""
        tableau, controller = self.solver.tableau, self.controller
        z_new = state.z + self._combined(tableau.b, state, state.slopes)
        ell_new = state.ell + self._combined(tableau.b, state, state.ell_slopes)
        finite = all_finite(z_new) & jnp.isfinite(ell_new)
        if isinstance(controller, AdaptiveController):
            decision = self._judge(state, controller, z_new, finite)
        else:
            decision = Decision(finite, state.size, state.remembered_error)
        state, accept = self._conclude(state, ended, decision, z_new, ell_new, finite)
        slopes, ell_slopes = state.slopes, state.ell_slopes
        if tableau.fsal:
            slopes = slopes.at[:, 0].set(select(accept, slopes[:, -1], slopes[:, 0]))
            ell_slopes = ell_slopes.at[:, 0].set(
                jnp.where(accept, ell_slopes[:, -1], ell_slopes[:, 0])
            )
        # A rejected step keeps its first slope; an accepted one has the next's only with fsal.
        restart = jnp.where(accept, jnp.int32(1 if tableau.fsal else 0), jnp.int32(1))
        return replace(
            state,
            slopes=slopes,
            ell_slopes=ell_slopes,
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
        low = tableau.b_error_low
        error = controller.error(
            state.z,
            z_new,
            self._combined(tableau.b_error, state, state.slopes),
            None if low is None else self._combined(low, state, state.slopes),
            self._combined(tableau.b_error, state, state.ell_slopes),
            None if low is None else self._combined(low, state, state.ell_slopes),
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
