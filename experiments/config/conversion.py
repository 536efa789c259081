"""Fiddle configs and config documents, one into the other.

A config is made explicit first: every default spelt out, every default object a config of its own.
So `--describe` and `config.json` show all there is, every field can be overridden, and a later
change of a default does not change what a saved config means.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import fiddle as fdl

from diffusion_ode.configs import allowed, construction
from diffusion_ode.configs.documents import Document
from diffusion_ode.errors import UserError

_PLAIN = (type(None), bool, int, float, str)


def explicit(value: Any) -> Any:
    """A copy of a config in which nothing is left to defaults.

    Defaults that are objects, and those that `default_factory` would make, become configs. Flax's
    own `parent` and `name` are left alone. Sharing is dissolved: every field has a config to
    itself, so that setting one never sets another.

    Raises:
      UserError: the value holds something that a config cannot write down.
    """
    return _explicit(value, copy.copy)


def complete(config: fdl.Config) -> fdl.Config:
    """Makes a config explicit in place. Raises as `explicit`, and returns the same config."""
    seen: set[int] = set()

    def own(config: fdl.Config) -> fdl.Config:
        if id(config) in seen:
            return copy.copy(config)
        seen.add(id(config))
        return config

    return _explicit(config, own)


def _explicit(value: Any, own: Callable[[fdl.Config], fdl.Config]) -> Any:
    """What `own` makes of each config, explicit; it may be the same one."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, fdl.Config):
        config = own(value)
        given = config.__arguments__
        for name, default in construction.defaults_of(fdl.get_callable(config)).items():
            if name not in given:
                setattr(config, name, default)
        for name, field in list(given.items()):
            if isinstance(field, _PLAIN):
                continue
            if isinstance(name, int):  # of *args
                config[name] = _explicit(field, own)
            else:
                setattr(config, name, _explicit(field, own))
        return config
    # Not asked of a config, which would write down all that is in it to say that it has none.
    if getattr(value, "ndim", None) == 0:  # a number of NumPy or JAX
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = construction.fields_of(type(value))
        fields = {name: getattr(value, name) for name in names}
        return _explicit(fdl.Config(type(value), **fields), own)
    match value:
        case tuple() if type(value) is tuple:
            return tuple(_explicit(item, own) for item in value)
        case list():
            return [_explicit(item, own) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _explicit(item, own) for key, item in value.items()}
    if allowed.name_of(value) is not None:
        return value
    raise UserError(
        f"A config cannot hold {value!r} of type {type(value).__name__}; use a literal, a tuple, a "
        "config of a dataclass, or one of the functions in diffusion_ode/configs/allowed.py."
    )


def arguments_of(config: fdl.Config) -> dict[str, Any]:
    """The fields that are set, in the constructor's order; those of `*args` as one of that name."""
    arguments = fdl.ordered_arguments(config)
    named = {name: value for name, value in arguments.items() if isinstance(name, str)}
    if len(named) == len(arguments):
        return named
    several = tuple(value for name, value in arguments.items() if isinstance(name, int))
    star = next(n for n in construction.fields_of(fdl.get_callable(config)) if n[0] == "*")
    return {star: several, **named}


def config_of(constructor: Callable, arguments: Mapping[str, Any]) -> fdl.Config:
    """The config that has these arguments; the inverse of `arguments_of`."""
    several = [item for name, items in arguments.items() if name[0] == "*" for item in items]
    named = {name: value for name, value in arguments.items() if name[0] != "*"}
    return fdl.Config(constructor, *several, **named)


def to_document(config: Any) -> Document:
    """The config as a document, with every default spelt out."""
    return _document(explicit(config))


def _document(value: Any) -> Document:
    if isinstance(value, fdl.Config):
        return {
            "call": allowed.reference_of(fdl.get_callable(value)),
            "arguments": {name: _document(v) for name, v in arguments_of(value).items()},
        }
    match value:
        case tuple():
            return {"tuple": list(map(_document, value))}
        case list():
            return list(map(_document, value))
        case dict():
            return {"dict": {key: _document(item) for key, item in value.items()}}
    if name := allowed.name_of(value):
        return {"name": name}
    return value
