"""Solves one batch of initial value problems."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.solvers.drivers import Driver, default_driver
from diffusion_ode.solvers.integrator import Integrator, integrator_of
from diffusion_ode.solvers.lane_state import LaneState
from diffusion_ode.solvers.solution import Solution, of_lanes
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import StepController
from diffusion_ode.solvers.vector_field import Context, VectorField


def solve(
    vector_field: VectorField,
    args: Any,
    z: jax.Array | np.ndarray,
    ell: jax.Array | np.ndarray | None = None,
    context: Context = None,
    *,
    solver: Solver,
    controller: StepController,
    span: tuple[float, float],
    driver: Driver | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Solution:
    """Integrates dz/ds and dell/ds over the span, every example with its own steps.

    Args:
      vector_field: see VectorField; may return None for dell/ds.
      args: shared by all examples, such as parameters.
      z: states at span[0]. [batch, *shape]
      ell: log-densities at span[0], nats; None is zero. [batch]
      context: what belongs to one example; every array with a leading batch axis.
      solver: the method.
      controller: PIController or FixedSteps.
      span: start and end, in either direction.
      driver: HostLoop or DeviceLoop; None takes the platform's own.
      sharding: of the batch axis.

    Returns:
      A Solution of arrays [batch, ...] on the device. Look at `converged`.
    """
    check_span(span)
    integrator = integrator_of(solver, vector_field, controller, sharding)
    z = jnp.asarray(z)
    ell = jnp.zeros(z.shape[:1], z.dtype) if ell is None else jnp.asarray(ell)
    state = start_lanes(
        integrator,
        z,
        ell,
        jax.tree.map(jnp.asarray, context),
        jnp.asarray(span, z.dtype),
        jnp.ones(z.shape[:1], bool),
    )
    state = (driver or default_driver()).run(integrator, state, args, enough=z.shape[0])
    return of_lanes(state, jnp.arange(z.shape[0]))


def check_span(span: tuple[float, float]) -> None:
    """Raises UserError for a span without length."""
    if span[0] == span[1]:
        raise UserError(
            f"The span {span} has no length, so there is nothing to integrate: start and end must "
            "differ."
        )


def start_lanes(
    integrator: Integrator,
    z: jax.Array | np.ndarray,
    ell: jax.Array | np.ndarray,
    context: Context,
    span: jax.Array,
    filled: jax.Array,
) -> LaneState:
    """Integrator.start with one span [2] for all lanes, checked and compiled."""
    integrator.controller.check(integrator.solver, jnp.result_type(z))
    return started(integrator, z, ell, context, span, filled)


@jax.jit
def started(
    integrator: Integrator,
    z: jax.Array,
    ell: jax.Array,
    context: Context,
    span: jax.Array,
    filled: jax.Array,
) -> LaneState:
    """The compiled part of `start_lanes`."""
    start, end = (jnp.full(z.shape[:1], span[i]) for i in (0, 1))
    return integrator.start(z, ell, context, start, end, filled)
