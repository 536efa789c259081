"""Adams' multistep method, predicting and correcting, at one evaluation a step."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.ranges import Within
from diffusion_ode.solvers.arrays import (
    Count,
    Mask,
    PerLane,
    Slopes,
    State,
    Weights,
    all_finite,
    expand,
    select,
    weighted_sum,
)
from diffusion_ode.solvers.integrator import Integrator, Slope
from diffusion_ode.solvers.lane_state import LaneState, Outcome
from diffusion_ode.solvers.step_controller import AdaptiveController, Decision, StepController
from diffusion_ode.solvers.vector_field import VectorField

# With more slopes the rounding and the roughness of a network's slopes are amplified, and variable
# steps soon are not zero-stable any more.
_MOST_SLOPES = 5
_FIRST, _STEP, _LOOK = 0, 1, 2  # stages: slope at the start, a step, the first step's look ahead
_EULER_ERROR_ORDER = 1  # the first step knows one slope


@dataclass(frozen=True)
class Adams:
    """Adams–Bashforth predictor, Adams–Moulton corrector, variable steps; PEC mode.

    With the times s_n, s_{n−1}, … reached so far, h = s_{n+1} − s_n and k = order:
      z* = z_n + ∫ p, p the polynomial through the slopes at s_n … s_{n−k+1},
      evaluate dz/ds and dell/ds at (s_{n+1}, z*),
      z_{n+1} = z_n + ∫ q, q the polynomial through these slopes and the new one, of order k + 1,
      error = z_{n+1} − z*, of size h^(k + 1).
    One evaluation a step, at evenly spread times: where dell/ds is rough on the scale of a step it
    is this that decides. For equal steps the sum over the steps is the trapezoidal rule with
    corrections at its ends, which all but ignores oscillations that it resolves; the unequal
    weights of a high-order Runge–Kutta method amplify them (Dormand–Prince 5 has Σ b² = 0.75 on
    six evaluations; equal weights would have 0.17). ell is corrected at order k.

    The first steps use as many slopes as there are.

    Hairer, Nørsett and Wanner, Solving ODEs I, sections III.1 and III.5.

    Attributes:
      order: k, of the predictor.
    """

    order: Annotated[int, Within(1, _MOST_SLOPES)] = 4

    __post_init__ = check_fields

    @property
    def name(self) -> str:
        return f"Adams {self.order}"

    @property
    def convergence_order(self) -> int:
        return min(self.order + 1, 3)  # the first step knows one slope, and errs by h³

    @property
    def estimates_errors(self) -> bool:
        return True

    def integrator(
        self,
        vector_field: VectorField,
        controller: StepController,
        sharding: jax.sharding.Sharding | None = None,
    ) -> Integrator:
        return AdamsIntegrator(vector_field, self, controller, sharding)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """The slopes at the times reached so far, the newest first.

    Attributes:
      slopes: dz/ds. [lanes, order, *shape]
      ell_slopes: dell/ds. [lanes, order]
      times: s. [lanes, order]
    """

    slopes: Slopes
    ell_slopes: Weights
    times: Weights

    def with_newest(self, lanes: Mask, time: PerLane, slope: Slope) -> "History":
        """In those lanes the slope comes first, and the oldest is forgotten."""

        def pushed(new: jax.Array, known: jax.Array) -> jax.Array:
            longer = jnp.concatenate([new[:, None], known[:, :-1]], axis=1)
            return select(lanes, longer, known)

        return History(
            pushed(slope.z, self.slopes),
            pushed(slope.ell, self.ell_slopes),
            pushed(time, self.times),
        )


class AdamsIntegrator(Integrator):
    """An Integrator whose lanes remember the slopes of their last steps."""

    solver: Adams

    def fresh_memory(self, z: State) -> History:
        lanes, order = z.shape[0], self.solver.order
        return History(
            slopes=jnp.zeros((lanes, order, *z.shape[1:]), z.dtype),
            ell_slopes=jnp.zeros((lanes, order), z.dtype),
            times=jnp.zeros((lanes, order), z.dtype),
        )

    def advance(self, state: LaneState, args: Any) -> LaneState:
        running = state.outcome == Outcome.RUNNING
        begun = running & (state.stage == _FIRST)
        looked = running & (state.stage == _LOOK)
        ended = running & (state.stage == _STEP)

        known = jnp.minimum(state.accepted + 1, self.solver.order)
        step = jnp.where(begun, 1, state.s_next - state.s)
        nodes = (state.memory.times - state.s[:, None]) / step[:, None]
        weights = integration_weights(nodes, known)
        change = expand(step, state.z.ndim) * weighted_sum(weights, state.memory.slopes)
        predicted = state.z + change
        there = jnp.where(begun, state.s, state.s_next)
        slope = self._slope(state, args, there, select(begun, state.z, predicted))

        state = replace(
            state,
            nfe=state.nfe + running.astype(jnp.int32),
            memory=state.memory.with_newest(begun, state.s, slope),
        )
        state = replace(state, stage=jnp.where(running, jnp.int32(_STEP), state.stage))
        if isinstance(self.controller, AdaptiveController):
            unsized = begun & (state.size == 0)
            first = Slope(state.memory.slopes[:, 0], state.memory.ell_slopes[:, 0])
            state = self._look_ahead(state, self.controller, unsized, first, _LOOK)
            state = self._size_first_step(
                state, self.controller, looked, first, slope, _EULER_ERROR_ORDER
            )
        state = self._correct(state, ended, predicted, nodes, slope)
        return self._placed(self._without_broken(state, begun, slope))

    def _correct(
        self,
        state: LaneState,
        ended: Mask,
        predicted: State,
        nodes: Weights,
        slope: Slope,
    ) -> LaneState:
        """Where the slope at the step's end is known: accept or reject the step."""
        known = jnp.minimum(state.accepted + 1, self.solver.order)
        step = state.s_next - state.s
        nodes = jnp.concatenate([jnp.ones_like(nodes[:, :1]), nodes], axis=1)
        slopes = jnp.concatenate([slope.z[:, None], state.memory.slopes], axis=1)
        ell_slopes = jnp.concatenate([slope.ell[:, None], state.memory.ell_slopes], axis=1)

        weights = integration_weights(nodes, known + 1)
        z_new = state.z + expand(step, state.z.ndim) * weighted_sum(weights, slopes)
        # One slope fewer than z: what it integrates is rougher.
        of_ell = jnp.maximum(jnp.minimum(known + 1, self.solver.order), 2)
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
        return replace(state, memory=state.memory.with_newest(accept, reached, slope))


def integration_weights(nodes: Weights, used: Count) -> Weights:
    """Weights w [lanes, k] with ∫_0^1 p = Σ w_j p(x_j), p the polynomial through `used` nodes.

    Args:
      nodes: x, times in units of the step, from its start. [lanes, k]
      used: how many of the first, at least 1; the weights of later nodes are zero. [lanes]
    """
    columns = [nodes[:, j] for j in range(nodes.shape[1])]
    weights = jnp.zeros_like(nodes)
    for count in range(1, len(columns) + 1):
        some = jnp.stack(_lagrange_integrals(columns[:count]), axis=1)
        padded = jnp.pad(some, ((0, 0), (0, len(columns) - count)))
        weights = jnp.where((used == count)[:, None], padded, weights)
    return weights


def _lagrange_integrals(nodes: list[PerLane]) -> list[PerLane]:
    """The integrals over [0, 1] of the Lagrange polynomials of the nodes."""
    integrals = []
    for own in nodes:
        others = [node for node in nodes if node is not own]
        coefficients = [jnp.ones_like(own)]  # of 1, x, x², …
        scale = jnp.ones_like(own)
        for other in others:
            coefficients = _times_linear(coefficients, other)
            scale = scale * (own - other)
        integral = sum(
            (c / (power + 1) for power, c in enumerate(coefficients)), jnp.zeros_like(own)
        )
        integrals.append(integral / jnp.where(scale == 0, 1, scale))  # 0: not used yet
    return integrals


def _times_linear(coefficients: list[jax.Array], root: PerLane) -> list[jax.Array]:
    """Those of (x − root) Σ c_i x^i."""
    zero = jnp.zeros_like(root)
    raised, lowered = [zero, *coefficients], [*coefficients, zero]
    return [up - root * low for up, low in zip(raised, lowered, strict=True)]
