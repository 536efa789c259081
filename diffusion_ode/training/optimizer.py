"""Optimisers: any Optax transformation, AdamW as published, and learning rates of a run."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from diffusion_ode.checking import check_fields
from diffusion_ode.ranges import CountFromZero, Fraction, NonNegative, Positive
from diffusion_ode.training.traced_numbers import unchecked
from diffusion_ode.typing import Array, Parameters


@runtime_checkable
class Optimizer(Protocol):
    """What makes an update of a gradient: every Optax transformation, or a class with these two.

    `update` gives what is added to the parameters, and the next state. Whatever accepts them is
    handed two extra arguments: `value`, the loss in nats per dimension, and `moment`, where in
    its run the step stands.
    """

    def init(self, params: Parameters) -> Any: ...

    def update(self, updates: Any, state: Any, params: Parameters) -> tuple[Any, Any]: ...


class Moment(NamedTuple):
    """Where in its run a step stands.

    Attributes:
      step: optimiser steps done, counted from the very first run.
      first_step: the step at which this run began: 0, or where a warm start left off.
      num_steps: how many steps this run takes.
    """

    step: Array
    first_step: Array
    num_steps: int


@runtime_checkable
class LearningRate(Protocol):
    """A learning rate that knows more of the run than how many steps it has taken."""

    def at(self, moment: Moment) -> Array: ...


Schedule = Callable[[Array], Array]
"""Optax's kind of learning rate: of the steps taken in this run, which a warm start begins anew."""


@dataclass(frozen=True)
class WarmedUp:
    """Linear from `start` to `peak` over the very first `warmup_steps`, then constant: published.

    A run that goes on from another's step does not warm up again. In an optimiser of Optax's, which
    knows no other run, it is a schedule as any other.

    Source: Zheng et al. 2023, arXiv:2305.03935, appendix H.
    """

    traced: ClassVar = ("peak", "warmup_steps", "start")
    peak: NonNegative = 2e-4
    warmup_steps: CountFromZero = 100
    start: NonNegative = 1e-8

    __post_init__ = check_fields

    def at(self, moment):
        return self(moment.step)

    def __call__(self, count):
        rising = jnp.minimum(1.0, count / jnp.maximum(self.warmup_steps, 1))
        return self.start + (self.peak - self.start) * rising


@dataclass(frozen=True)
class WarmedUpThenCosine:
    """Linear to `peak` over this run's first `warmup_steps`, then along half a cosine to `end`.

    For short runs on small data, where a constant rate stops far from the minimum. Unlike
    `optax.warmup_cosine_decay_schedule` it takes the run's length from the run.

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, equation 5.
    """

    traced: ClassVar = ("peak", "warmup_steps", "end")
    peak: NonNegative = 1e-3
    warmup_steps: CountFromZero = 100
    end: NonNegative = 0.0

    __post_init__ = check_fields

    def at(self, moment):
        own = (moment.step - moment.first_step).astype(jnp.float32)
        rising = own / jnp.maximum(self.warmup_steps, 1)
        falls_for = jnp.maximum(moment.num_steps - self.warmup_steps, 1)
        progress = (own - self.warmup_steps) / falls_for
        falling = 0.5 * (1.0 + jnp.cos(math.pi * jnp.clip(progress, 0.0, 1.0)))
        level = self.end + (self.peak - self.end) * falling
        return jnp.where(own < self.warmup_steps, self.peak * rising, level)


@dataclass(frozen=True)
class WarmedUpThenPolynomial:
    """Linear from 0 to `peak` over this run's first `warmup_steps`, then to `end` at its last.

    The distance from `end` falls with the power of the share of steps that remain.
    """

    traced: ClassVar = ("peak", "end", "power")
    peak: NonNegative = 5e-4
    warmup_steps: CountFromZero = 45_000
    end: NonNegative = 0.0
    power: Positive = 1.0

    __post_init__ = check_fields

    def at(self, moment):
        falling = max(moment.num_steps - self.warmup_steps, 1)
        schedule = optax.join_schedules(
            [
                optax.linear_schedule(0.0, self.peak, self.warmup_steps),
                optax.polynomial_schedule(self.peak, self.end, self.power, falling),
            ],
            [self.warmup_steps],
        )
        return schedule(moment.step - moment.first_step)


class Transformation(optax.GradientTransformationExtraArgs):
    """A config class whose `init` and `update` are an Optax transformation's.

    Optax's combinators hand extra arguments only to instances of their own class, a named tuple
    that they unpack: this is one, with the two methods as its items.
    """

    def __new__(cls, *_, **__):
        return tuple.__new__(cls)

    def __iter__(self):
        return iter((self.init, self.update))


@dataclass(frozen=True)
class ScaleByLearningRate(Transformation):
    """The update times −learning_rate, last in a chain; `optax.scale_by_learning_rate` of a run.

    So every chain can have a rate that knows the run:
    `chain(clip_by_global_norm(1.0), scale_by_lion(), ScaleByLearningRate(WarmedUpThenCosine()))`.
    """

    traced: ClassVar = ("learning_rate",)
    learning_rate: NonNegative | LearningRate | Schedule

    __post_init__ = check_fields

    def init(self, params):
        return optax.EmptyState()

    def update(self, updates, state, params=None, *, moment: Moment, **_):
        rate = self.rate(moment)
        return jax.tree.map(lambda update: -rate * update, updates), state

    def rate(self, moment: Moment) -> Array:
        if isinstance(self.learning_rate, int | float | jax.Array):  # an array has an `at`, too
            return jnp.asarray(self.learning_rate)
        if isinstance(self.learning_rate, LearningRate):
            return self.learning_rate.at(moment)
        return jnp.asarray(self.learning_rate(moment.step - moment.first_step))


class Decayed(Transformation):
    """A direction, then weight decay that is decoupled from it, and the learning rate.

    Attributes:
      learning_rate, weight_decay: of both; biases do not decay.
      clip_norm: gradients of a larger norm are made this long first; None: as they are.
    """

    learning_rate: NonNegative | LearningRate | Schedule
    weight_decay: NonNegative
    clip_norm: Positive | None

    def direction(self) -> optax.GradientTransformation:
        """From gradients to updates at a learning rate of 1, without the decay."""
        raise NotImplementedError

    def init(self, params):
        return self._chain().init(params)

    def update(self, updates, state, params=None, **extra):
        return self._chain().update(updates, state, params, **extra)

    def rate(self, moment: Moment) -> Array:
        return self._scale.rate(moment)

    @property
    def _scale(self) -> ScaleByLearningRate:
        return unchecked(ScaleByLearningRate(0.0), learning_rate=self.learning_rate)

    def _chain(self) -> optax.GradientTransformationExtraArgs:
        clip = () if self.clip_norm is None else (optax.clip_by_global_norm(self.clip_norm),)
        return optax.chain(
            *clip,
            self.direction(),
            optax.add_decayed_weights(self.weight_decay, mask=NotBiases()),
            self._scale,
        )


@dataclass(frozen=True)
class AdamW(Decayed):
    """Adam with decoupled weight decay on everything but biases.

    Args:
      learning_rate, b1, b2, eps, weight_decay: its own.
      clip_norm: gradients of a larger norm are made this long first; None: as they are.

    Source: Loshchilov and Hutter 2017, arXiv:1711.05101; values of Zheng et al. 2023,
    arXiv:2305.03935, appendix H.
    """

    traced: ClassVar = ("learning_rate", "b1", "b2", "eps", "weight_decay", "clip_norm")
    learning_rate: NonNegative | LearningRate | Schedule = field(default_factory=WarmedUp)
    b1: Fraction = 0.9
    b2: Fraction = 0.99
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    clip_norm: Positive | None = None

    __post_init__ = check_fields

    def direction(self):
        return optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps)


@dataclass(frozen=True)
class NotBiases:
    """A mask for Optax's weight decay: True for every leaf that is not called `bias`."""

    def __call__(self, params: Parameters):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "bias", params)


def updated(
    optimizer: Optimizer, gradients: Any, state: Any, parameters: Parameters, **extra: Any
) -> tuple[Any, Any]:
    """The optimiser's updates and next state; it is handed of `extra` what it accepts."""
    update = optax.with_extra_args_support(optimizer).update  # pyright: ignore[reportArgumentType]
    return update(gradients, state, parameters, **extra)


def known_rate(optimizer: Optimizer, moment: Moment) -> dict[str, Array]:
    """The learning rate, by that name, if the optimiser tells it."""
    rate = next(_rates(optimizer), None)
    return {} if rate is None else {"learning_rate": rate(moment)}


def _rates(optimizer: Any) -> Iterator[Callable[[Moment], Array]]:
    """Of the optimiser or of a link of its chain, which Optax keeps in a closure only."""
    if hasattr(optimizer, "rate"):
        yield optimizer.rate
    for cell in getattr(getattr(optimizer, "update", None), "__closure__", None) or ():
        if isinstance(cell.cell_contents, tuple):
            for link in cell.cell_contents:
                rate = getattr(getattr(link, "__self__", None), "rate", None)
                if rate is not None:
                    yield rate


def schedules_begun_anew(state: Any) -> Any:
    """An optimiser's state in which Optax's schedules have counted no step of this run yet."""

    def anew(link):
        if isinstance(link, optax.ScaleByScheduleState):
            return link._replace(count=jnp.zeros_like(link.count))
        return link

    return jax.tree.map(anew, state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState))
