"""Whether a value fits the annotation of the field it is for, and what that field takes."""

import collections.abc
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiddle as fdl

from diffusion_ode.configs import allowed, construction
from diffusion_ode.suggestions import either, with_article
from experiments.config import catalogue


class Misfit(Exception):
    """The value is none of those that the annotation takes."""


@functools.cache
def annotations_of(constructor: Callable) -> dict[str, Any]:
    """Field → annotation; a field that cannot be resolved takes anything."""
    try:
        return typing.get_type_hints(constructor)
    except Exception:  # a name that only a type checker sees, in whichever library
        parameters = inspect.signature(constructor).parameters.values()
        return {p.name: Any if isinstance(p.annotation, str) else p.annotation for p in parameters}


def fit(value: Any, annotation: Any) -> Any:
    """The value as the annotation wants it: an int as float, a list as tuple, a str as Path.

    Args:
      value: a literal, a container of values, an enum member, a library function, or a config.
      annotation: of the field that it is for.

    Raises:
      Misfit: it does not fit.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if _takes_anything(annotation):
        return value
    if origin is typing.Annotated:
        return fit(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _fit_one_of(value, arguments)
    if origin is typing.Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise Misfit
    if annotation is None or annotation is type(None):
        return _keep_if(value is None, value)
    kind = origin or annotation
    if kind in (tuple, list, collections.abc.Sequence, collections.abc.Iterable):
        return _fit_items(value, kind, arguments)
    if kind in (dict, collections.abc.Mapping):
        return _keep_if(isinstance(value, dict), value)
    if kind in (collections.abc.Callable, Callable):
        return _keep_if(_is_callable(value), value)
    return _fit_class(value, kind)


def takes(annotation: Any) -> str:
    """What a field of this annotation takes, to end the sentence 'it takes …'."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if _takes_anything(annotation):
        return "anything"
    if origin is typing.Annotated:
        return takes(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _either_of(list(dict.fromkeys(map(takes, arguments))))
    if origin is typing.Literal:
        return either(map(repr, arguments))
    if annotation is None or annotation is type(None):
        return "None"
    kind = origin or annotation
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"({', '.join(_short(argument) for argument in arguments)})"
    if kind in _CONTAINERS:
        items = [_short(a) for a in arguments if a is not Ellipsis]
        return f"a {kind.__name__.lower()}" + (f" of {', '.join(items)}" if items else "")
    if kind in _LITERALS:
        return _LITERALS[kind]
    if not isinstance(kind, type):
        return str(annotation)
    if issubclass(kind, enum.Enum):
        return either(member.name for member in kind)
    pieces = pieces_for(kind)
    if pieces == [kind]:
        return _call(kind)
    examples = either(map(_call, pieces[:_SHOWN_PIECES])) if pieces else ""
    return with_article(kind.__name__.rpartition(".")[2]) + (
        f", e.g. {examples}" if examples else ""
    )


def pieces_for(kind: type) -> list[type]:
    """The pieces of this class or protocol that live beside it, else those imported so far."""
    if kind.__module__.partition(".")[0] not in allowed.PACKAGES:
        return []
    for pieces in (catalogue.pieces_beside(kind.__module__), catalogue.loaded_pieces()):
        if fitting := [piece for piece in pieces if _makes(piece, kind)]:
            return fitting
    return []


def _call(piece: type) -> str:
    """As one begins to type it: with the fields that have no default."""
    needed = [n for n, p in construction.fields_of(piece).items() if p.default is p.empty]
    return f"{piece.__name__}({', '.join(f'{name}=…' for name in needed)})"


def _either_of(kinds: list[str]) -> str:
    """As `either`; a comma keeps apart what has commas inside."""
    *most, last = kinds
    return f"{', '.join(most)}, or {last}" if most and ", " in "".join(most) else either(kinds)


_SHOWN_PIECES = 6
_LITERALS = {
    int: "an int",
    float: "a float",
    bool: "True or False",
    str: "a text",
    Path: "a path",
    collections.abc.Callable: "a function",
}
_SEQUENCES = (tuple, list, collections.abc.Sequence, collections.abc.Iterable)
_CONTAINERS = (*_SEQUENCES, dict, collections.abc.Mapping)


def _takes_anything(annotation: Any) -> bool:
    return annotation in (Any, object, inspect.Parameter.empty) or isinstance(
        annotation, typing.TypeVar | str | typing.ForwardRef
    )


def _fit_one_of(value: Any, choices: tuple) -> Any:
    fitting = []
    for choice in choices:
        try:
            fitting.append(fit(value, choice))
        except Misfit:
            continue
    for fitted in fitting:  # 1 stays 1 for float | int
        if type(fitted) is type(value):
            return fitted
    if not fitting:
        raise Misfit
    return fitting[0]


def _fit_items(value: Any, kind: Any, arguments: tuple) -> Any:
    if not isinstance(value, tuple | list):
        raise Misfit
    container = list if kind is list else tuple
    if not arguments:
        return container(value)
    if kind is not tuple or arguments[-1] is Ellipsis:
        return container(fit(item, arguments[0]) for item in value)
    if len(value) != len(arguments):
        raise Misfit
    return tuple(fit(item, argument) for item, argument in zip(value, arguments, strict=True))


def _fit_class(value: Any, kind: Any) -> Any:
    if not isinstance(kind, type):
        return value  # a form of annotation that is not understood decides nothing
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    if issubclass(kind, enum.Enum) and isinstance(value, str) and value in kind.__members__:
        return kind[value]
    if isinstance(value, bool) and kind is not bool:
        raise Misfit
    if isinstance(value, fdl.Config):
        made = fdl.get_callable(value)
        if not _makes(made, kind):
            raise Misfit(_lacking(made, kind))
        return value
    if _is_protocol(kind):
        raise Misfit  # a literal is no piece
    return _keep_if(isinstance(value, kind), value)


def _makes(constructor: Callable, kind: type) -> bool:
    """Whether what the constructor makes is of the kind: by its class, or its attributes."""
    if not isinstance(constructor, type):
        made = annotations_of(constructor).get("return")
        if typing.get_origin(made) is collections.abc.Callable:
            return _is_protocol(kind) and _members(kind) == {"__call__"}
        if not isinstance(made, type):
            return True  # unknown: building will tell
        constructor = made
    if not _is_protocol(kind) and "_fields" not in vars(kind):
        return issubclass(constructor, kind)
    members = _members(kind)  # a library's named tuple, such as Optax's, is taken for a protocol
    if construction.is_linen_module(constructor) and "__call__" not in members:
        return False  # a network has fields named like anything, but is there to be called
    has = {name for base in constructor.__mro__ for name in (*vars(base), *_annotated(base))}
    return members <= has and all(_is_called_like(constructor, kind, name) for name in members)


def _lacking(constructor: Callable, kind: type) -> str:
    """What a class of somebody's own lacks of a protocol, if that is little; else nothing."""
    if not (isinstance(constructor, type) and _is_protocol(kind)):
        return ""
    members = _members(kind)
    has = {name for base in constructor.__mro__ for name in (*vars(base), *_annotated(base))}
    missing = sorted(members - has)
    if not 0 < len(missing) < len(members):
        return ""
    return f"{constructor.__name__} lacks {' and '.join(missing)}"


def _is_callable(value: Any) -> bool:
    if not isinstance(value, fdl.Config):
        return callable(value)
    made = fdl.get_callable(value)
    if isinstance(made, type):
        return any("__call__" in vars(base) for base in made.__mro__)
    return not isinstance(annotations_of(made).get("return"), type)


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
    except TypeError:
        return False
    return True


def _is_protocol(kind: type) -> bool:
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


def _keep_if(fits: bool, value: Any) -> Any:
    if not fits:
        raise Misfit
    return value


def _short(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation))
