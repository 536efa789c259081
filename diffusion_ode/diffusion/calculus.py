"""Derivative, integral and inverse of a function of one number, element by element.

For what a path or schedule leaves open: a closed form is faster, these are as accurate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Elementwise = Callable[[Float[Array, "..."]], Float[Array, "..."]]

_PANELS, _NODES = 32, 8  # 1e-9 where a logistic sigmoid is integrated over a hundred units
_HALVINGS, _NEWTON_STEPS = 16, 3  # 1e-5 of the bracket; squared three times, less than float64 has


def derivative(function: Elementwise, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The derivative f′(x)."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def integral(function: Elementwise, lower: Array, upper: Array) -> Float[Array, "..."]:
    """The integral of f from lower to upper, by Gauss and Legendre's rule on equal panels."""
    along = (1,) * jnp.ndim(lower) + (-1,)
    position, weight = (jnp.asarray(part, lower.dtype).reshape(along) for part in _rule())
    start, width = lower[..., None], (upper - lower)[..., None]
    return jnp.sum(function(start + width * position) * (width * weight), axis=-1)


def inverse(
    function: Elementwise, value: Float[Array, "..."], lower: float, upper: float
) -> Float[Array, "..."]:
    """The x in [lower, upper] at which an increasing function takes the value.

    Halving the bracket always leads there; Newton's steps, kept inside it, lead to the last digits
    and carry the gradient.
    """
    target = jax.lax.stop_gradient(value)
    bracket = jnp.full_like(target, lower), jnp.full_like(target, upper)

    def halved(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        below = function(middle) < target
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halved, bracket)
    x = 0.5 * (low + high)
    for step in range(_NEWTON_STEPS):
        last = step == _NEWTON_STEPS - 1
        x = jax.lax.stop_gradient(jnp.clip(x, low, high))
        slope = jax.lax.stop_gradient(derivative(function, x))
        x = x + ((value if last else target) - function(x)) / slope
    return x


def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the composite rule on [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    edges = np.arange(_PANELS)[:, None]
    position = (edges + 0.5 * (node + 1.0)) / _PANELS
    return position.ravel(), np.tile(0.5 * weight / _PANELS, _PANELS)
