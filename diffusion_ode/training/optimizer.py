"""AdamW and its learning rates."""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from diffusion_ode.errors import UserError
from diffusion_ode.typing import Array, Parameters


@runtime_checkable
class LearningRate(Protocol):
    """The learning rate at an optimiser step."""

    def __call__(self, step: Array) -> Array: ...


@dataclass(frozen=True)
class WarmedUp:
    """Linear from `start` to `peak` over `warmup_steps`, then constant: as published."""

    peak: float = 2e-4
    warmup_steps: int = 100
    start: float = 1e-8

    def __call__(self, step):
        return self.start + (self.peak - self.start) * jnp.minimum(
            1.0, step / max(self.warmup_steps, 1)
        )


@dataclass(frozen=True)
class WarmedUpThenCosine:
    """Linear to `peak` over `warmup_steps`, then along half a cosine to `end` at `total_steps`.

    For short runs on small data, where a constant rate stops far from the minimum.

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, equation 5.
    """

    peak: float = 2e-4
    total_steps: int = 1000
    warmup_steps: int = 100
    end: float = 0.0

    def __post_init__(self):
        if self.total_steps <= self.warmup_steps:
            raise UserError(
                f"total_steps = {self.total_steps} is not above warmup_steps = {self.warmup_steps}:"
                " leave steps in which the rate can fall."
            )

    def __call__(self, step):
        rising = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        falling = 0.5 * (1.0 + jnp.cos(math.pi * jnp.clip(progress, 0.0, 1.0)))
        level = self.end + (self.peak - self.end) * falling
        return jnp.where(step < self.warmup_steps, self.peak * rising, level)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay on everything but biases.

    Source: Loshchilov and Hutter 2017, arXiv:1711.05101; values of Zheng et al. 2023,
    arXiv:2305.03935, appendix H.
    """

    learning_rate: LearningRate = field(default_factory=WarmedUp)
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.01

    def transformation(self) -> optax.GradientTransformation:
        """The Optax transformation, whose state a checkpoint holds."""
        return optax.adamw(
            self.learning_rate,
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            mask=not_biases,
        )


def not_biases(parameters: Parameters):
    """True for every leaf that is not called `bias`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "bias", parameters)
