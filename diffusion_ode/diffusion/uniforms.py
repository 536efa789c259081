"""Uniform numbers for a batch, from which its times are made."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.typing import Key, PerImage


@runtime_checkable
class Uniforms(Protocol):
    """Draws u ∈ [0, 1), one for each image of the *global* batch."""

    def draw(self, key: Key, batch_size: int) -> PerImage: ...


@dataclass(frozen=True)
class IndependentUniforms:
    """Independent u_i ~ U[0, 1)."""

    def draw(self, key, batch_size):
        return jax.random.uniform(key, (batch_size,))


@dataclass(frozen=True)
class LowDiscrepancyUniforms:
    """Evenly spread: u_i = u0 + i/B mod 1 with one shared offset u0 ~ U[0, 1); each is uniform.

    Taken over the global batch, so that the variance does not depend on the number of devices.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix I.1.
    """

    def draw(self, key, batch_size):
        return self.place(jax.random.uniform(key, ()), batch_size)

    def place(self, offset, batch_size: int):
        """The B points of an offset; i/B from integers, as a float range can be B+1 long."""
        points = offset + jnp.arange(batch_size, dtype=jnp.int32).astype(jnp.float32) / batch_size
        return points - jnp.floor(points)
