"""Whether what a constructor makes is of a class or protocol."""

import collections.abc
import functools
import inspect
import numbers
import sys
import typing
from collections.abc import Callable
from typing import Any

_LITERAL = (type(None), str, numbers.Number)
_PLAIN = (tuple, list, dict)


@functools.singledispatch
def constructor_of(value: Any) -> Callable | None:
    """What makes a piece, which of an object is its class; None of a literal or a container."""
    return None if isinstance(value, _LITERAL) or type(value) in _PLAIN else type(value)


@functools.cache
def annotations_of(constructor: Callable) -> dict[str, Any]:
    """Field → annotation; a field that cannot be resolved takes anything."""
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
        return {name: hint for name, hint in hints.items() if not _is_of_class(hint)}
    except Exception:  # a name that only a type checker sees, in whichever library
        signature = inspect.signature(constructor)
        found = {p.name: p.annotation for p in signature.parameters.values()}
        if signature.return_annotation is not signature.empty:
            found["return"] = signature.return_annotation
        return {name: Any if isinstance(hint, str) else hint for name, hint in found.items()}


def _is_of_class(hint: Any) -> bool:
    """Whether it is no field but what the class says of itself."""
    return typing.ClassVar in (hint, typing.get_origin(hint))


@functools.cache
def makes(constructor: Callable, kind: type) -> bool:
    """Whether what the constructor makes is of the kind: by its class, or its attributes."""
    if not isinstance(constructor, type):
        made = annotations_of(constructor).get("return")
        if typing.get_origin(made) is collections.abc.Callable:
            return is_protocol(kind) and _members(kind) == {"__call__"}
        if not isinstance(made, type):
            return True  # unknown: building will tell
        constructor = made
    if not is_protocol(kind) and "_fields" not in vars(kind):
        return issubclass(constructor, kind)
    members = _members(kind)  # a library's named tuple, such as Optax's, is taken for a protocol
    if is_linen_module(constructor) and "__call__" not in members:
        return False  # a network has fields named like anything, but is there to be called
    has = {name for base in constructor.__mro__ for name in (*vars(base), *_annotated(base))}
    return members <= has and all(_is_called_like(constructor, kind, name) for name in members)


def has_members(piece: Any, kind: type) -> bool:
    """Whether an object has all that a protocol wants, some of it perhaps not of its class."""
    return is_protocol(kind) and all(hasattr(piece, name) for name in _members(kind))


def lacking(constructor: Callable, kind: type) -> str:
    """What a class of somebody's own lacks of a protocol, if that is little; else nothing."""
    if not (isinstance(constructor, type) and is_protocol(kind)):
        return ""
    members = _members(kind)
    has = {name for base in constructor.__mro__ for name in (*vars(base), *_annotated(base))}
    missing = sorted(members - has)
    if not 0 < len(missing) < len(members):
        return ""
    return f"{constructor.__name__} lacks {' and '.join(missing)}"


def _is_called_like(constructor: type, protocol: type, name: str) -> bool:
    """Whether a method takes what the protocol's takes, by name; what is no method always does."""
    theirs, ours = getattr(protocol, name, None), getattr(constructor, name, None)
    if not (inspect.isfunction(theirs) and inspect.isfunction(ours)):
        return True
    given = inspect.signature(theirs).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in given):
        return True
    try:
        inspect.signature(ours).bind(
            *(p for p in given if p.kind is p.POSITIONAL_ONLY),
            **{p.name: p for p in given if p.kind is not p.POSITIONAL_ONLY},
        )
    except (TypeError, ValueError):
        return False
    return True


def is_linen_module(constructor: Callable) -> bool:
    """Whether it makes a Flax module; imports nothing."""
    linen = sys.modules.get("flax.linen")
    return (
        linen is not None
        and isinstance(constructor, type)
        and issubclass(constructor, linen.Module)
    )


def is_protocol(kind: type) -> bool:
    """Whether it is a protocol."""
    return getattr(kind, "_is_protocol", False)


def _members(protocol: type) -> set[str]:
    if "_fields" in vars(protocol):
        return set(protocol._fields)
    names: set[str] = set()
    for base in protocol.__mro__:
        if base not in (object, typing.Protocol, typing.Generic):
            names |= {*vars(base), *_annotated(base)}
    return {name for name in names if not name.startswith("_") or name == "__call__"}


def _annotated(kind: type) -> set[str]:
    return set(inspect.get_annotations(kind))
