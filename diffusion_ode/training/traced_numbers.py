"""Numbers of a step's pieces as arguments of the compiled step, one program for all their values.

A number within a compiled program makes another program of it: a sweep over a learning rate would
compile anew at each. So a piece may name those of its fields that no array's shape and no `if`
depends on, and the step is compiled for any values of them:

    @dataclass(frozen=True)
    class Falling:
        traced: ClassVar = ("peak",)
        peak: float = 1e-3

        def at(self, moment):
            return self.peak / (1.0 + moment.step)

Fields that hold other pieces are named, too, where these may be looked into. A class speaks for
itself alone: one that derives from it may do with a number what it likes.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Numbers = Mapping[str, Any]
"""A number by the path of its field."""


def numbers_of(piece: Any, path: str) -> dict[str, float]:
    """The numbers that a piece and those within it let be traced, by their fields' paths."""
    found: dict[str, float] = {}
    for name in vars(type(piece)).get("traced", ()):
        value, inner = getattr(piece, name), f"{path}.{name}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[inner] = value
        else:
            found |= numbers_of(value, inner)
    return found


def with_numbers(piece: Any, numbers: Numbers, path: str) -> Any:
    """A copy of the piece whose numbers are those given; `numbers_of` names them."""
    if not any(name.startswith(f"{path}.") for name in numbers):
        return piece
    changed = {}
    for name in vars(type(piece))["traced"]:
        inner = f"{path}.{name}"
        changed[name] = numbers.get(inner, with_numbers(getattr(piece, name), numbers, inner))
    return unchecked(piece, **changed)


def unchecked(piece: Any, **fields: Any) -> Any:
    """A copy with other fields, which may be tracers: they have no value that could be checked."""
    made = copy.copy(piece)
    for name, value in fields.items():
        object.__setattr__(made, name, value)  # as frozen dataclasses do it themselves
    return made


@dataclass(frozen=True)
class StepNumbers:
    """What a compiled step is given besides state and batch.

    Args:
      values: Python's numbers, which JAX traces as weakly typed, and NumPy's.
      sharding: of all of them; the same everywhere.
    """

    values: Numbers
    sharding: jax.sharding.Sharding

    @property
    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            name: jax.ShapeDtypeStruct(
                (),
                jnp.result_type(value),
                sharding=self.sharding,
                weak_type=not isinstance(value, np.generic),
            )
            for name, value in self.values.items()
        }

    @functools.cached_property
    def placed(self) -> dict[str, jax.Array]:
        """On the devices, once for all steps."""
        # As arrays: a float of Python differs from its float32, which processes compare.
        return jax.device_put(jax.tree.map(jnp.asarray, dict(self.values)), self.sharding)
