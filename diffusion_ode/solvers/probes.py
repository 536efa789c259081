"""Distributions of probe vectors: mean zero, covariance the identity."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.errors import UserError


@runtime_checkable
class ProbeDistribution(Protocol):
    """Draws n probes for one example; E[v] = 0 and E[v v'] = I for each."""

    def draw(self, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
        """An array [n, *shape], float32."""
        ...


@dataclass(frozen=True)
class Rademacher:
    """Entries ±1: the variance of v'Jv is 2(‖S‖² − Σ S_ii²), the diagonal being seen exactly.

    S = (J + J')/2, Frobenius norm. Hutchinson 1990, "A stochastic estimator of the trace of the
    influence matrix for Laplacian smoothing splines".
    """

    def draw(self, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.rademacher(key, (n, *shape), jnp.float32)


@dataclass(frozen=True)
class Gaussian:
    """Standard normal entries: the variance of v'Jv is 2‖S‖²."""

    def draw(self, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.normal(key, (n, *shape), jnp.float32)


@dataclass(frozen=True)
class Orthogonal:
    """Uniformly rotated orthogonal vectors of length √N, N the number of dimensions.

    The variance of the mean of n of them is 2(N − n)/(n (N − 1)(N + 2)) · (N‖S‖² − (tr S)²): a
    multiple of the identity is seen exactly, and with n = N everything is.
    n = 1 is a probe uniform on the sphere.
    """

    def draw(self, key: jax.Array, n: int, shape: tuple[int, ...]) -> jax.Array:
        dimensions = math.prod(shape)
        if n > dimensions:
            raise UserError(
                f"{n} orthogonal probes are asked for, but in {dimensions} dimensions there are at "
                f"most {dimensions}: ask for fewer, or take ExactTrace()."
            )
        # QR of a Gaussian matrix, signs as they fall: the span is uniform, and v'Jv is even in v.
        columns, _ = jnp.linalg.qr(jax.random.normal(key, (dimensions, n), jnp.float32))
        return columns.T.reshape(n, *shape) * jnp.sqrt(jnp.float32(dimensions))
