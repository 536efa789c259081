"""Small helpers for arrays whose first axis is the lane."""

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

PerLane = Float[Array, " lanes"]
"""One number for each lane."""
Count = Int[Array, " lanes"]
Mask = Bool[Array, " lanes"]
State = Float[Array, "lanes *shape"]
"""What is integrated, or its derivative."""
Weights = Float[Array, "lanes stages"]
Slopes = Float[Array, "lanes stages *shape"]

Class = TypeVar("Class", bound=type)


def traced_fields(cls: Class) -> Class:
    """Registers a dataclass of numbers as a pytree, so that jit sees its fields as inputs.

    Compiled code is then shared by all its values. Unlike `jax.tree_util.register_dataclass` it
    rebuilds the object without __init__, whose checks tracers would not survive.
    """
    names = [field.name for field in dataclasses.fields(cls)]

    def rebuilt(_: None, values: tuple[object, ...]) -> object:
        instance = object.__new__(cls)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(instance, name, value)
        return instance

    jax.tree_util.register_pytree_node(
        cls, lambda instance: (tuple(getattr(instance, name) for name in names), None), rebuilt
    )
    return cls


def expand(values: jax.Array, rank: int) -> jax.Array:
    """Appends axes of length one until `values` has that rank."""
    return values.reshape(values.shape + (1,) * (rank - values.ndim))


def select(lanes: Mask, new: jax.Array, old: jax.Array) -> jax.Array:
    """Takes `new` in the lanes where the mask [lanes] holds, else `old`; never mixes lanes."""
    return jnp.where(expand(lanes, old.ndim), new, old)


def root_mean_square(values: State) -> PerLane:
    """Over everything but the lane axis: [lanes]."""
    return jnp.sqrt(jnp.mean(values**2, axis=tuple(range(1, values.ndim))))


def all_finite(values: State) -> Mask:
    """Per lane: [lanes]."""
    return jnp.all(jnp.isfinite(values), axis=tuple(range(1, values.ndim)))


def weighted_sum(weights: Weights, slopes: Slopes) -> State:
    """The sum over j of weights[l, j] slopes[l, j, ...], for weights [lanes, stages].

    A weight of zero leaves a slope out even if it is not a number: stages that are not reached yet
    hold what an earlier step left there. Written as products and a sum, because a matrix product
    would run at reduced precision on some accelerators.
    """
    weights = expand(weights, slopes.ndim)
    return jnp.sum(jnp.where(weights == 0, 0, weights * slopes), axis=1)


def constant(values: object, dtype: jnp.dtype) -> jax.Array:
    """A NumPy or Python table as a JAX array of that type."""
    return jnp.asarray(np.asarray(values, np.float64), dtype)
