"""The exact trace of a Jacobian."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.ranges import Count
from diffusion_ode.solvers.arrays import State
from diffusion_ode.solvers.divergence import Field, ValueAndTrace


@dataclass(frozen=True)
class ExactTrace:
    """The sum of e_i' J e_i over all N directions, `chunk` of them at a time (None: all at once).

    Costs N products with J per evaluation, and the memory of `chunk` of them: for tests, for small
    images, and to tell the noise of the probes from the rest.
    There is nothing to draw: the probe of one example is an empty array.
    """

    chunk: Count | None = None

    __post_init__ = check_fields

    @property
    def exact(self) -> bool:
        return True

    @property
    def in_words(self) -> str:
        return "exact trace"

    def draw_probe(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        del key, shape
        return jnp.zeros((0,), jnp.float32)

    def __call__(self, f: Field, z: State, probe: jax.Array) -> ValueAndTrace:
        del probe
        value, tangent = jax.linearize(f, z)
        dimensions = z.size // z.shape[0]
        chunk = min(self.chunk or dimensions, dimensions)

        def diagonal_sum(first: jax.Array) -> jax.Array:
            # Past the last dimension a one-hot row is zero, and so is what it adds.
            rows = jax.nn.one_hot(first + jnp.arange(chunk), dimensions, dtype=z.dtype)
            directions = rows.reshape(chunk, 1, *z.shape[1:])
            product = jax.vmap(lambda e: tangent(jnp.broadcast_to(e, z.shape)))(directions)
            return jnp.sum(product * directions, axis=(0, *range(2, z.ndim + 1)))

        if chunk == dimensions:
            return ValueAndTrace(value, diagonal_sum(jnp.int32(0)))
        starts = jnp.arange(0, dimensions, chunk, dtype=jnp.int32)
        return ValueAndTrace(value, jnp.sum(jax.lax.map(diagonal_sum, starts), axis=0))
