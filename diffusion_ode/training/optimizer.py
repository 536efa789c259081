"""AdamW and its learning rates."""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from diffusion_ode.typing import Array, Parameters


@runtime_checkable
class LearningRate(Protocol):
    """The learning rate of a step.

    Args:
      step: optimiser steps done, counted from the very first run.
      first_step: the step at which this run began: 0, or where a warm start left off.
      num_steps: how many steps this run takes.
    """

    def __call__(self, step: Array, first_step: Array, num_steps: int) -> Array: ...


@dataclass(frozen=True)
class WarmedUp:
    """Linear from `start` to `peak` over the very first `warmup_steps`, then constant: published.

    A run that goes on from another's step does not warm up again.

    Source: Zheng et al. 2023, arXiv:2305.03935, appendix H.
    """

    peak: float = 2e-4
    warmup_steps: int = 100
    start: float = 1e-8

    def __call__(self, step, first_step, num_steps):
        del first_step, num_steps
        rising = jnp.minimum(1.0, step / max(self.warmup_steps, 1))
        return self.start + (self.peak - self.start) * rising


@dataclass(frozen=True)
class WarmedUpThenCosine:
    """Linear to `peak` over this run's first `warmup_steps`, then along half a cosine to `end`.

    For short runs on small data, where a constant rate stops far from the minimum.

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, equation 5.
    """

    peak: float = 1e-3
    warmup_steps: int = 100
    end: float = 0.0

    def __call__(self, step, first_step, num_steps):
        own = (step - first_step).astype(jnp.float32)
        rising = own / max(self.warmup_steps, 1)
        progress = (own - self.warmup_steps) / max(num_steps - self.warmup_steps, 1)
        falling = 0.5 * (1.0 + jnp.cos(math.pi * jnp.clip(progress, 0.0, 1.0)))
        level = self.end + (self.peak - self.end) * falling
        return jnp.where(own < self.warmup_steps, self.peak * rising, level)


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
        """Everything but the learning rate, which belongs to the run and scales the update last."""
        return optax.chain(
            optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps),
            optax.add_decayed_weights(self.weight_decay, mask=not_biases),
        )


def not_biases(parameters: Parameters):
    """True for every leaf that is not called `bias`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key != "bias", parameters)
