"""Integrates with Adams' method; see `integrator` for how lanes go on side by side."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.solvers.adams import Adams, integration_weights
from diffusion_ode.solvers.arrays import (
    Mask,
    PerLane,
    State,
    all_finite,
    expand,
    select,
    weighted_sum,
)
from diffusion_ode.solvers.integrator import Integrator
from diffusion_ode.solvers.lane_state import LaneState, Outcome
from diffusion_ode.solvers.step_controller import AdaptiveController, Decision

_FIRST, _STEP, _LOOK = 0, 1, 2  # stages: slope at the start, a step, the first step's look ahead
_EULER_ERROR_ORDER = 1  # the first step knows one slope


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["controller"],
    meta_fields=["vector_field", "solver", "sharding"],
)
@dataclass(frozen=True)
class MultistepIntegrator(Integrator):
    """An Integrator whose lanes remember the slopes of their last steps, the newest first."""

    solver: Adams  # type: ignore[assignment]

    @property
    def slots(self) -> int:
        return self.solver.order

    @property
    def remembers_times(self) -> bool:
        return True

    def advance(self, state: LaneState, args: Any) -> LaneState:
        running = state.outcome == Outcome.RUNNING
        begun = running & (state.stage == _FIRST)
        looked = running & (state.stage == _LOOK)
        ended = running & (state.stage == _STEP)

        known = jnp.minimum(state.accepted + 1, self.slots)
        step = jnp.where(begun, 1, state.s_next - state.s)
        nodes = (state.slope_times - state.s[:, None]) / step[:, None]
        weights = integration_weights(nodes, known)
        predicted = state.z + expand(step, state.z.ndim) * weighted_sum(weights, state.slopes)
        slope, ell_slope = self.vector_field(
            args,
            jnp.where(begun, state.s, state.s_next),
            select(begun, state.z, predicted),
            state.context,
        )
        slope = slope.astype(state.z.dtype)
        ell_slope = jnp.zeros_like(state.ell) if ell_slope is None else ell_slope
        ell_slope = ell_slope.astype(state.z.dtype)

        state = replace(state, nfe=state.nfe + running.astype(jnp.int32))
        state = _remember(state, begun, state.s, slope, ell_slope)
        state = replace(state, stage=jnp.where(running, jnp.int32(_STEP), state.stage))
        if isinstance(self.controller, AdaptiveController):
            unsized = begun & (state.size == 0)
            state = self._look_ahead(state, self.controller, unsized, _LOOK)
            state = self._size_first_step(
                state, self.controller, looked, (slope, ell_slope), _EULER_ERROR_ORDER
            )
        state = self._correct(state, ended, predicted, nodes, slope, ell_slope)
        return self._placed(self._without_broken(state, begun))

    def _correct(
        self,
        state: LaneState,
        ended: Mask,
        predicted: State,
        nodes: jax.Array,
        slope: State,
        ell_slope: PerLane,
    ) -> LaneState:
        """Where the slope at the step's end is known: accept or reject the step."""
        known = jnp.minimum(state.accepted + 1, self.slots)
        step = state.s_next - state.s
        nodes = jnp.concatenate([jnp.ones_like(nodes[:, :1]), nodes], axis=1)
        slopes = jnp.concatenate([slope[:, None], state.slopes], axis=1)
        ell_slopes = jnp.concatenate([ell_slope[:, None], state.ell_slopes], axis=1)

        weights = integration_weights(nodes, known + 1)
        z_new = state.z + expand(step, state.z.ndim) * weighted_sum(weights, slopes)
        # One slope fewer than z: what it integrates is rougher.
        of_ell = jnp.maximum(jnp.minimum(known + 1, self.slots), 2)
        change = step * weighted_sum(integration_weights(nodes, of_ell), ell_slopes)
        rougher = step * weighted_sum(integration_weights(nodes, of_ell - 1), ell_slopes)
        ell_new = state.ell + change
        finite = all_finite(z_new) & jnp.isfinite(ell_new)
        if isinstance(self.controller, AdaptiveController):
            error = self.controller.error(
                state.z,
                z_new,
                z_new - predicted,
                None,
                change - rougher,
                None,
                self._unit(state.s),
            )
            decision = self.controller.decide(
                jnp.where(finite, error, jnp.nan),
                state.remembered_error,
                jnp.abs(step),
                state.after_rejection,
                known.astype(step.dtype),
            )
        else:
            decision = Decision(finite, state.size, state.remembered_error)
        reached = state.s_next
        state, accept = self._conclude(state, ended, decision, z_new, ell_new, finite)
        return _remember(state, accept, reached, slope, ell_slope)


def _remember(
    state: LaneState, lanes: Mask, time: PerLane, slope: State, ell_slope: PerLane
) -> LaneState:
    """Puts slopes before those that the lanes know; the oldest is forgotten."""

    def pushed(new: jax.Array, known: jax.Array) -> jax.Array:
        longer = jnp.concatenate([new[:, None], known[:, :-1]], axis=1)
        return select(lanes, longer, known)

    return replace(
        state,
        slopes=pushed(slope, state.slopes),
        ell_slopes=pushed(ell_slope, state.ell_slopes),
        slope_times=pushed(time, state.slope_times),
    )
