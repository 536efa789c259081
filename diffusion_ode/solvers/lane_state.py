"""What is known of the solves under way."""

import enum
from dataclasses import dataclass
from typing import Any

import jax

from diffusion_ode.solvers.arrays import Count, Mask, PerLane, State
from diffusion_ode.solvers.vector_field import Context

Memory = Any
"""What a method keeps from one evaluation to the next: a pytree of arrays, lanes first."""


class Outcome(enum.IntEnum):
    """What has become of a lane."""

    IDLE = 0
    RUNNING = 1
    CONVERGED = 2
    OUT_OF_STEPS = 3
    STEP_TOO_SMALL = 4
    NOT_FINITE = 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LaneState:
    """The solves under way, each in its lane; every array has the lane axis first.

    Attributes:
      z: state at time s. [lanes, *shape]
      ell: accumulated integral of dell/ds, nats. [lanes]
      s: time reached.
      s_next: time that the step under way leads to. Its length is always s_next − s, a difference
        of two representable times, so that in float32 steps and times cannot drift apart.
      start, end: the span.
      size: the step size the controller asked for, positive; 0 = not known yet.
      memory: what the method keeps, such as slopes.
      stage: what the method evaluates next; it starts at 0, and its integrator says what follows.
      remembered_error: error of the accepted step before.
      after_rejection: whether the attempt before was rejected.
      nfe, accepted, rejected: evaluations, accepted and rejected steps.
      outcome: an Outcome.
      context: the vector field's.
    """

    z: State
    ell: PerLane
    s: PerLane
    s_next: PerLane
    start: PerLane
    end: PerLane
    size: PerLane
    memory: Memory
    stage: Count
    remembered_error: PerLane
    after_rejection: Mask
    nfe: Count
    accepted: Count
    rejected: Count
    outcome: Count
    context: Context
