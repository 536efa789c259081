"""Everything that a training step changes."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from diffusion_ode.diffusion.gaussian_base import trained
from diffusion_ode.diffusion.model import Model
from diffusion_ode.objectives.objective import Objective
from diffusion_ode.training.optimizer import Optimizer
from diffusion_ode.typing import Key, Parameters


@flax.struct.dataclass
class TrainState:
    """One moment of a training.

    Attributes:
      step: optimiser steps done, int32; a warm start may go on from another run's.
      first_step: the step at which this run began, int32.
      parameters: of the network, and what belongs to the model beside it.
      ema: their exponential moving average, which is evaluated.
      optimizer: Optax's state.
      times: the time sampler's state.
    """

    step: jax.Array
    first_step: jax.Array
    parameters: Parameters
    ema: Parameters
    optimizer: Any
    times: Any


def initial_state(model: Model, objective: Objective, optimizer: Optimizer, key: Key) -> TrainState:
    """A fresh state; to be called inside jit, so that no two of its arrays share a buffer."""
    return state_around(model.init(key), objective, optimizer)


def state_around(parameters: Parameters, objective: Objective, optimizer: Optimizer) -> TrainState:
    """The state of step 0 with these parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        first_step=jnp.zeros((), jnp.int32),
        parameters=parameters,
        ema=jax.tree.map(jnp.copy, parameters),
        optimizer=optimizer.init(trained(parameters)),
        times=objective.times.init(),
    )
