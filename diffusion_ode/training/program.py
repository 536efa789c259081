"""The compiled side of a training: how its state begins, and what a step does to it."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all

from diffusion_ode.backend import loops_are_fast, training_options
from diffusion_ode.diffusion.gaussian_base import BASE
from diffusion_ode.diffusion.model import Model, abstract_parameters
from diffusion_ode.distributed import processes
from diffusion_ode.objectives.objective import Objective
from diffusion_ode.randomness import stream_key
from diffusion_ode.training.optimizer import Optimizer
from diffusion_ode.training.sharding import Placement
from diffusion_ode.training.state import TrainState, initial_state, state_around
from diffusion_ode.training.step import ExponentialAverage, make_train_step
from diffusion_ode.training.traced_numbers import StepNumbers, numbers_of, with_numbers


@dataclass(frozen=True)
class TrainProgram:
    """Model, objective, optimiser and average, placed on a mesh.

    Args:
      num_steps, batch_size, accumulation, seed: as in the step.
      steps_per_call: that one call of the compiled step takes, one after the other.
    """

    model: Model
    objective: Objective
    optimizer: Optimizer
    average: ExponentialAverage
    placement: Placement
    num_steps: int
    batch_size: int
    accumulation: int
    seed: int
    steps_per_call: int = 1

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, types and shardings of the state, without any memory."""
        shapes = jax.eval_shape(
            lambda parameters: state_around(parameters, self.objective, self.optimizer),
            abstract_parameters(self.model),
        )
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self.placement.state(shapes),
        )

    @property
    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, types and shardings of what a call takes: a batch, or several in a row."""
        shape, sharding = (self.batch_size,), self.placement.batch
        if self.steps_per_call > 1:
            shape, sharding = (self.steps_per_call, *shape), self.placement.batches
        images = (*shape, *self.model.pixels.shape)
        return {
            "image": jax.ShapeDtypeStruct(images, jnp.uint8, sharding=sharding),
            "flag": jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding),
        }

    def fresh_state(self, images: np.ndarray | None = None) -> TrainState:
        """Step 0; made inside jit, where every array gets a buffer of its own.

        Args:
          images: of training, which the model's base is fitted to, if it has one; without them it
            stays that of N(0, I).
        """
        state = TrainState(**self.fresh_fields([f.name for f in dataclasses.fields(TrainState)]))
        if self.model.base is None or images is None:
            return state
        fitted = self.model.base.fit(images, self.model.pixels.levels)
        fitted = jax.tree.map(np.float32, fitted)
        if processes.count() > 1:  # the leader's, as another's library may round otherwise
            fitted = broadcast_one_to_all(fitted)

        def told(parameters):
            return {**parameters, BASE: jax.tree.map(_in_place_of, parameters[BASE], dict(fitted))}

        told_both = {"parameters": told(state.parameters), "ema": told(state.ema)}
        return dataclasses.replace(state, **told_both)

    def fresh_fields(self, names: Sequence[str]) -> dict[str, Any]:
        """Some fields of the state of step 0; no memory is spent on the others."""
        abstract = {name: getattr(self.abstract_state, name) for name in names}
        shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)

        def fields(seed):
            key = stream_key(seed, "parameters")
            state = initial_state(self.model, self.objective, self.optimizer, key)
            return {name: getattr(state, name) for name in names}

        options = training_options()
        return jax.jit(fields, out_shardings=shardings, compiler_options=options)(self._seed)

    def compile_step(self, lowered: jax.stages.Lowered | None = None) -> "CompiledStep":
        """The step, compiled ahead of its first use; it consumes the state it is given."""
        start = time.perf_counter()
        compiled = (lowered or self.lower_step()).compile(compiler_options=training_options())
        return CompiledStep(compiled, self._numbers, time.perf_counter() - start)

    def lower_step(self) -> jax.stages.Lowered:
        """The step, traced and lowered, which `compile_step` compiles.

        It is the same program whatever the seed and the numbers that the pieces let be traced.
        """

        def step_of(numbers):
            return make_train_step(
                self.model,
                with_numbers(self.objective, numbers, "objective"),
                with_numbers(self.optimizer, numbers, "optimizer"),
                with_numbers(self.average, numbers, "average"),
                num_steps=self.num_steps,
                accumulation=self.accumulation,
                seed=numbers["seed"],
                divide=self.placement.divide,
            )

        def one(state, batch, numbers):
            return step_of(numbers)(state, batch)

        def several(state, batches, numbers):
            if loops_are_fast():
                return jax.lax.scan(step_of(numbers), state, batches)
            told = []
            for i in range(self.steps_per_call):
                # Nothing is fused across steps, so that each computes what it would alone.
                state, own = jax.lax.optimization_barrier((state, numbers))
                state, metrics = step_of(own)(state, jax.tree.map(lambda a, i=i: a[i], batches))
                told.append(metrics)
            return state, jax.tree.map(lambda *each: jnp.stack(each), *told)

        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
        jitted = jax.jit(
            one if self.steps_per_call == 1 else several,
            donate_argnums=0,
            out_shardings=(shardings, self.placement.replicated),
        )
        return jitted.lower(self.abstract_state, self.abstract_batch, self._numbers.abstract)

    def place(self, *batches: dict[str, Any]) -> dict[str, jax.Array]:
        """What the compiled step takes of this process's NumPy batches, as many as a call has."""
        rows = {name: [batch[name] for batch in batches] for name in self.abstract_batch}
        if self.steps_per_call == 1:
            return self.placement.place_batch({name: only for name, (only,) in rows.items()})
        return self.placement.place_batch(
            {name: np.stack(each) for name, each in rows.items()}, self.placement.batches
        )

    @property
    def _seed(self) -> np.uint32:
        """As an argument of compiled programs, which are the same for all seeds."""
        return np.uint32(self.seed)

    @functools.cached_property
    def _numbers(self) -> StepNumbers:
        values: dict[str, Any] = {"seed": self._seed}
        for name in ("objective", "optimizer", "average"):
            values |= numbers_of(getattr(self, name), name)
        return StepNumbers(values, self.placement.replicated)


def _in_place_of(array: jax.Array, values: np.ndarray) -> jax.Array:
    """The values, where the array was."""
    return jax.make_array_from_callback(array.shape, array.sharding, lambda index: values[index])


@dataclass(frozen=True)
class CompiledStep:
    """An executable, of one step or of several in a row, and the seconds it took to make."""

    executable: Any
    numbers: StepNumbers
    seconds: float

    def __call__(self, state: TrainState, batch: dict[str, jax.Array]):
        return self.executable(state, batch, self.numbers.placed)
