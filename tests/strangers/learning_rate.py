"""The learning rate of Vaswani et al. 2017, arXiv:1706.03762, section 5.3."""

from dataclasses import dataclass

import fiddle as fdl
import jax.numpy as jnp
import optax

from experiments.registry import experiment


@dataclass(frozen=True)
class InverseSquareRoot:
    """Linear to `peak` over `warmup_steps`, then peak √(warmup_steps/step)."""

    peak: float = 1e-3
    warmup_steps: int = 4

    def __call__(self, count):
        share = (count + 1) / self.warmup_steps
        return self.peak * jnp.minimum(share, share**-0.5)


@experiment(parent="digits_vp")
def digits_inverse_square_root(config: fdl.Config) -> fdl.Config:
    """It need not know the number of steps, and ends as low."""
    config.train.optimizer.learning_rate = fdl.Config(InverseSquareRoot)
    return config


@experiment(parent="digits_inverse_square_root")
def digits_lion(config: fdl.Config) -> fdl.Config:
    """Optax's Lion takes the same schedule, after the gradient's norm was clipped."""
    rate = config.train.optimizer.learning_rate
    config.train.optimizer = fdl.Config(
        optax.chain,
        fdl.Config(optax.clip_by_global_norm, 1.0),
        fdl.Config(optax.lion, learning_rate=rate),
    )
    return config
