"""How many bytes a training step needs on each device; the state's are exact."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.backend import platform
from diffusion_ode.diffusion.model import Model, abstract_parameters
from diffusion_ode.networks.network import Activations, Stage, StatesActivations
from diffusion_ode.objectives.objective import StatesDirections
from diffusion_ode.training.program import TrainProgram

_FLOAT32 = 4  # bytes of a parameter, and of all that belongs to it


@dataclass(frozen=True)
class StepBytes:
    """Bytes on each device at a step's worst moment; they add up to `total`.

    Activations go as gradients come: the moment is mostly that at which the way back begins.

    Attributes:
      parameters, average, moments: this device's share of them.
      batch: the images.
      gathered: the whole of the parameters, where each device holds a share.
      gradients: those that are there then, and where parts of a batch are added up, their sum.
      activations: what is kept then for the gradients to come, and what is in use.
    """

    parameters: int
    average: int
    moments: int
    batch: int
    gathered: int
    gradients: int
    activations: int

    @property
    def state(self) -> int:
        return self.parameters + self.average + self.moments

    @property
    def temporary(self) -> int:
        """All that is there only during a step, but its images."""
        return self.gathered + self.gradients + self.activations

    @property
    def total(self) -> int:
        return self.state + self.batch + self.temporary


def train_step_bytes(program: TrainProgram) -> StepBytes:
    """Of one step of a training on its mesh."""
    state, images = program.abstract_state, images_at_once(program)
    whole = _FLOAT32 * sum(leaf.size for leaf in jax.tree.leaves(state.parameters))
    one = activations(program)
    kept, made = _worst(one.stages, images, whole)
    return StepBytes(
        parameters=_here(state.parameters),
        average=_here(state.ema),
        moments=_here(state.optimizer),
        batch=_here(program.abstract_batch),
        gathered=whole if program.placement.mesh.shape["fsdp"] > 1 else 0,
        gradients=round(made + (whole if program.accumulation > 1 else 0)),
        activations=round(kept + images * one.working),
    )


def activations(program: TrainProgram) -> Activations:
    """Of one image: what the network states, else what JAX's derivative of it keeps."""
    model, objective = program.model, program.objective
    network, shape = model.network, model.pixels.shape
    along = objective.directions(model) if isinstance(objective, StatesDirections) else 0.0
    if isinstance(network, StatesActivations):
        return network.activations(shape, directions=along, images=images_at_once(program))
    at_the_point = _derivative_keeps(model, False)
    kept = float(at_the_point)
    if along:
        kept += along * (_derivative_keeps(model, True) - at_the_point)
    return Activations((Stage(kept, parameters=0),), working=0.0, everything=kept)


def images_at_once(program: TrainProgram) -> int:
    """That a device keeps activations of."""
    images = program.batch_size // program.placement.mesh.size
    # XLA's CPU backend goes through all parts of a batch side by side.
    return images if platform() == "cpu" else images // program.accumulation


@functools.lru_cache(maxsize=8)
def _derivative_keeps(model: Model, along: bool) -> int:
    """Bytes per image, before a compiler makes some of them again: an upper bound.

    What two images keep less what one keeps, so that parameters do not count.

    Args:
      model: whose network it is.
      along: of the network's value and its derivative along one direction, not of the value alone.
    """

    def kept(parameters, z):
        each = jnp.zeros(len(z))

        def value(parameters):
            def network(z):
                return model.predict(parameters, z, each, each, jax.random.key(0))

            return jax.jvp(network, (z,), (z,)) if along else network(z)

        residuals = jax.tree.leaves(jax.vjp(value, parameters)[1])
        return list({id(array): array for array in residuals}.values())

    parameters = abstract_parameters(model)

    def of(images: int) -> int:
        z = jax.ShapeDtypeStruct((images, *model.pixels.shape), jnp.float32)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.eval_shape(kept, parameters, z))

    return of(2) - of(1)


def _worst(stages: tuple[Stage, ...], images: int, gradients: int) -> tuple[float, float]:
    """What is kept and what gradients there are at once on the way back, where it is most."""
    kept, made = sum(images * stage.kept for stage in stages), 0.0
    moments = [(kept, made)]
    for stage in reversed(stages):
        made += _FLOAT32 * stage.parameters
        moments.append((kept, made))
        kept -= images * stage.kept
    moments.append((0.0, float(gradients)))  # all of them, also of what is in no stage
    return max(moments, key=sum)


def _here(tree: Any) -> int:
    """Bytes of one device's share."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
