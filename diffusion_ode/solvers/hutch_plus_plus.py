"""Hutch++: a trace by a low-rank part and a remainder."""

import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Within
from diffusion_ode.solvers.arrays import State
from diffusion_ode.solvers.divergence import Field, ValueAndTrace, inner
from diffusion_ode.solvers.probes import Rademacher


@dataclass(frozen=True)
class HutchPlusPlus:
    """Exact on a random sketch of J's range, Hutchinson on what is left; `probes` products with J.

    With r = probes/3, sketch S [N, r] and Q an orthonormal basis of J S, P = I − Q Q':
      tr J = tr(Q' J Q) + tr(P J P), the second term estimated by (1/r) Σ (P g)' J (P g).
    Unbiased; exact for rank J ≤ r; its standard error falls as 1/probes at best.
    Pays where J has few large eigenvalues, and costs a QR decomposition per evaluation.
    Meyer, Musco, Musco and Woodruff 2020, arXiv:2010.09649, algorithm 1.
    The probe of one example is an array [2, r, *shape]: S, normal, and the vectors g of signs.
    """

    probes: Annotated[int, Within(3, 3 * 2**20, multiple_of=3)] = 3

    __post_init__ = check_fields

    @property
    def exact(self) -> bool:
        return False

    @property
    def in_words(self) -> str:
        return f"Hutch++ of {self.probes}"

    def draw_probe(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        dimensions, rank = math.prod(shape), self.probes // 3
        if rank > dimensions:
            raise UserError(
                f"probes is {self.probes}, but in {dimensions} dimensions Hutch++ is exact with "
                f"{3 * dimensions}: give at most that, or take ExactTrace()."
            )
        of_sketch, of_remainder = jax.random.split(key)
        # Two sign vectors may be parallel and miss a direction; two normal ones are not.
        sketch = jax.random.normal(of_sketch, (rank, *shape), jnp.float32)
        return jnp.stack([sketch, Rademacher().draw(of_remainder, rank, shape)])

    def __call__(self, f: Field, z: State, probe: jax.Array) -> ValueAndTrace:
        sketch, remainder = probe[:, 0].astype(z.dtype), probe[:, 1].astype(z.dtype)
        value, tangent = jax.linearize(f, z)
        times_jacobian = jax.vmap(tangent, in_axes=1, out_axes=1)
        basis = _orthonormalised(times_jacobian(sketch))
        remainder = remainder - _projected(basis, remainder)
        both = times_jacobian(jnp.concatenate([basis, remainder], axis=1))
        rank = basis.shape[1]
        of_basis = inner(basis, both[:, :rank])
        of_remainder = inner(remainder, both[:, rank:]) / jnp.asarray(rank, z.dtype)
        return ValueAndTrace(value, of_basis + of_remainder)


def _orthonormalised(vectors: jax.Array) -> jax.Array:
    """An orthonormal basis that holds the span of the vectors [batch, n, *shape]; same shape."""
    flat = vectors.reshape(*vectors.shape[:2], -1)
    columns, _ = jnp.linalg.qr(jnp.swapaxes(flat, 1, 2))
    return jnp.swapaxes(columns, 1, 2).reshape(vectors.shape)


def _projected(basis: jax.Array, vectors: jax.Array) -> jax.Array:
    """The vectors' part in the span of the basis; all [batch, n, *shape]."""
    flat_basis = basis.reshape(*basis.shape[:2], -1)
    flat = vectors.reshape(*vectors.shape[:2], -1)
    exact = jax.lax.Precision.HIGHEST
    weights = jnp.einsum("bni,bmi->bnm", flat, flat_basis, precision=exact)
    return jnp.einsum("bnm,bmi->bni", weights, flat_basis, precision=exact).reshape(vectors.shape)
