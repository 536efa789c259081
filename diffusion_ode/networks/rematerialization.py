"""What of a block is kept for its gradient, and what is computed again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
from jax.ad_checkpoint import checkpoint_name

_PRODUCT = "product"


def product(x):
    """Marks the output of a convolution or matrix product: costly to compute again."""
    return checkpoint_name(x, _PRODUCT)


@runtime_checkable
class Rematerialization(Protocol):
    """Trades memory for time: the values stay the same to rounding.

    Source: Chen et al. 2016, arXiv:1604.06174.
    """

    def wrap(self, block: Callable) -> Callable:
        """The same function of arrays, with another way to its gradient."""
        ...


@dataclass(frozen=True)
class KeepAll:
    """Everything that the gradient needs is kept: fastest."""

    def wrap(self, block):
        return block


@dataclass(frozen=True)
class KeepProducts:
    """What is between convolutions (normalisation, swish, dropout) is computed again: cheap."""

    def wrap(self, block):
        return jax.checkpoint(block, policy=jax.checkpoint_policies.save_only_these_names(_PRODUCT))


@dataclass(frozen=True)
class KeepInputs:
    """Only what goes into a block is kept: least memory, for one more forward pass."""

    def wrap(self, block):
        return jax.checkpoint(block)
