"""The training step: a pure function from (state, batch) to (state, metrics)."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from diffusion_ode.backend import loops_are_fast
from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.gaussian_base import trained
from diffusion_ode.diffusion.learned_schedule import SCHEDULE, LearnedSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.objectives.objective import LossTerms, Objective
from diffusion_ode.randomness import batch_key, shifted, stream_key
from diffusion_ode.ranges import Fraction
from diffusion_ode.training.optimizer import Moment, Optimizer, known_rate, updated
from diffusion_ode.training.schedule_gradient import schedule_gradient, with_times
from diffusion_ode.training.state import TrainState
from diffusion_ode.training.step_metrics import step_metrics
from diffusion_ode.typing import Array

Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]


@dataclass(frozen=True)
class ExponentialAverage:
    """ema ← ema + (1 − decay)(parameters − ema) after every optimiser step.

    Args:
      decay: the share of the average that a step keeps.
      warmup: if true, the decay at step t is at most (1 + t)/(10 + t), so that short runs
        forget their beginning.
    """

    traced: ClassVar = ("decay",)
    decay: Fraction = 0.9999
    warmup: bool = False

    __post_init__ = check_fields

    def update(self, ema, parameters, step):
        decay = jnp.asarray(self.decay)
        if self.warmup:
            decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
        # Not `optax.incremental_update`, whose (1 − δ) old + δ new rounds the old value at every
        # step: after 40 000 of them at 0.9999 it is further off by a factor of 2.5, and by one of
        # 36 where δ is a Python float.
        return jax.tree.map(lambda old, new: old + (1.0 - decay) * (new - old), ema, parameters)


def make_train_step(
    model: Model,
    objective: Objective,
    optimizer: Optimizer,
    average: ExponentialAverage,
    *,
    num_steps: int,
    accumulation: int = 1,
    seed: int | Array = 0,
    divide: Callable[[Callable], Callable] = lambda gradient: gradient,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The pure step; a step is one optimiser step however its batch is divided.

    Args:
      model, objective, optimizer, average: what to train, and how.
      num_steps: of the run, for the learning rate.
      accumulation: parts that the batch is divided into, one after the other; the gradient is
        that of the whole batch.
      seed: of the run.
      divide: makes a gradient over a batch into one whose images lie on several devices.
    """
    dimensions = model.pixels.dimensions

    def loss(parameters, part, dropout_key):
        terms = objective.loss(
            model.bound(parameters),
            parameters,
            part["image"],
            part["flag"],
            part["draws"],
            dropout_key,
        )
        # Nats per dimension: a scale that suits Adam's epsilon whatever the image's size.
        return jnp.mean(terms.loss) / dimensions, terms

    learned = model.schedule if isinstance(model.schedule, LearnedSchedule) else None
    of_part = with_times(loss) if learned else jax.grad(loss, has_aux=True)
    gradient = functools.partial(_accumulated, of_part, accumulation)

    def train_step(state: TrainState, batch: Batch):
        images = batch["image"].astype(jnp.int32)
        objective_key = stream_key(seed, "objective", state.step)

        def draw(parameters):
            return objective.draw(model.bound(parameters), images, objective_key, state.times)

        draws = draw(state.parameters)
        whole = {"image": images, "flag": batch["flag"], "draws": draws}
        dropout_key = batch_key(stream_key(seed, "dropout", state.step))
        gradients, terms = divide(gradient)(state.parameters, whole, dropout_key)
        if learned:
            terms, by_times = terms
            gradients[SCHEDULE] = schedule_gradient(
                learned,
                lambda eta: draw({**state.parameters, SCHEDULE: eta}),
                state.parameters[SCHEDULE],
                gradients[SCHEDULE],
                terms,
                by_times,
                dimensions,
            )
        gradients, before = trained(gradients), trained(state.parameters)

        moment = Moment(state.step, state.first_step, num_steps)
        value = jnp.mean(terms.loss) / dimensions
        updates, optimizer_state = updated(
            optimizer, gradients, state.optimizer, before, value=value, moment=moment
        )
        after: Any = optax.apply_updates(before, updates)
        average_after = average.update(trained(state.ema), after, state.step)
        new_state = TrainState(
            step=state.step + 1,
            first_step=state.first_step,
            parameters={**state.parameters, **after},
            ema={**state.ema, **average_after},
            optimizer=optimizer_state,
            times=_taught(objective, model.bound(state.parameters), state.times, terms),
        )
        metrics = step_metrics(model, terms, gradients, updates, before)
        return new_state, metrics | known_rate(optimizer, moment)

    return train_step


def _accumulated(gradient, accumulation: int, parameters, images, dropout_key):
    """The mean gradient over parts of the images, one after the other, and the terms of all."""
    if accumulation == 1:
        return gradient(parameters, images, dropout_key)

    parts = jax.tree.map(lambda a: a.reshape(accumulation, -1, *a.shape[1:]), images)
    starts = jnp.arange(accumulation) * parts["image"].shape[1]

    def add(total, part_and_start):
        part, start = part_and_start
        gradients, terms = gradient(parameters, part, shifted(dropout_key, start))
        return jax.tree.map(jnp.add, total, gradients), terms

    zero = jax.tree.map(jnp.zeros_like, parameters)
    if loops_are_fast():
        total, terms = jax.lax.scan(add, zero, (parts, starts))
    else:
        total, collected = zero, []
        for i in range(accumulation):
            total, terms = add(total, jax.tree.map(lambda a, i=i: a[i], (parts, starts)))
            collected.append(terms)
        terms = jax.tree.map(lambda *t: jnp.stack(t), *collected)
    gradients = jax.tree.map(lambda g: g / accumulation, total)
    return gradients, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), terms)


def _taught(objective: Objective, model: Model, times, terms: LossTerms):
    """The time sampler's state after a batch."""
    if terms.integrand is None:
        return times
    gamma, value, weight = terms.integrand
    value = value if weight is None else weight * value
    return objective.times.update(times, model.schedule, gamma, value)
