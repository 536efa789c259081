"""In which floating-point type a network computes."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp


@runtime_checkable
class Precision(Protocol):
    """The type of a network's activations and products; its parameters are float32 in any case.

    So are, whatever the type: the statistics of normalisations, softmax, the last convolution and
    what it is added to; and outside of the network the loss, its derivatives and log densities.
    """

    @property
    def dtype(self) -> Any:
        """The activations' type; None keeps that of the network's input."""
        ...


@dataclass(frozen=True)
class Float32:
    """Float32 throughout: as published, and what likelihoods are stated in.

    The input's own type, to be exact, so that float64 input is computed in float64.
    """

    @property
    def dtype(self) -> Any:
        return None


@dataclass(frozen=True)
class Bfloat16:
    """Activations and products in bfloat16: half the memory, and faster on devices made for it.

    Eight bits of precision: an evaluation in float32 of parameters trained so is legitimate, and
    tells what the rounding cost.
    """

    @property
    def dtype(self) -> Any:
        return jnp.bfloat16
