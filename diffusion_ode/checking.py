"""Whether a value fits the annotation of the field it is for, and what that field takes.

A config class whose fields declare ranges (`diffusion_ode.ranges`) or choices checks them by

    __post_init__ = check_fields
"""

import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from diffusion_ode.conformance import (
    annotations_of,
    constructor_of,
    has_members,
    is_protocol,
    lacking,
    makes,
)
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Within
from diffusion_ode.suggestions import either, with_article


def check_fields(piece: Any, *, but: Collection[str] = ()) -> None:
    """Refuses what a field does not take: another kind, outside of its range, none of its choices.

    NumPy's numbers become Python's, and lists become tuples. Fields that have no value yet, or are
    for classes of other libraries, are not looked at.

    Args:
      piece: a dataclass.
      but: the names of fields that take what does as much of a protocol as is needed.

    Raises:
      UserError: with value, rule and remedy.
    """
    kind = type(piece)
    annotations = annotations_of(kind)
    for name in (field.name for field in dataclasses.fields(piece)):
        if name in but or not hasattr(piece, name):
            continue
        value, annotation = getattr(piece, name), annotations.get(name, Any)
        # Defaults are checked by a test, once.
        if value is not getattr(kind, name, piece) and _is_understood(annotation):
            plain = check(name, value, annotation)
            if plain is not value:  # a field that is computed cannot be set, and need not be
                object.__setattr__(piece, name, plain)


def check(name: str, value: Any, annotation: Any) -> Any:
    """The value as its annotation wants it.

    Raises:
      UserError: it does not fit; with value, rule and remedy.
    """
    try:
        return fit(value, annotation)
    except Misfit:
        raise UserError(
            f"{name} = {shown(value)} is not {takes(annotation)}: give such a value."
        ) from None


def shown(value: Any) -> str:
    """As in a sentence, however long."""
    try:
        return f"{value!r:.99}"
    except ValueError:  # Python prints no numbers of thousands of digits
        return "a number of thousands of digits"


class Misfit(Exception):
    """The value is none of those that the annotation takes."""


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
        fitted = fit(value, arguments[0])
        for rule in arguments[1:]:
            if isinstance(rule, Within) and fitted not in rule:
                raise Misfit
        return fitted
    if origin in (typing.Union, types.UnionType):
        return _fit_one_of(value, arguments)
    if origin is typing.Literal:
        plain = _plain(value)
        if any(type(plain) is type(choice) and plain == choice for choice in arguments):
            return plain
        raise Misfit
    if annotation is None or annotation is type(None):
        return _keep_if(value is None, value)
    kind = origin or annotation
    if kind in (tuple, list, collections.abc.Sequence, collections.abc.Iterable):
        return _fit_items(value, kind, arguments)
    if kind in (dict, collections.abc.Mapping):
        return _keep_if(isinstance(value, dict if kind is dict else collections.abc.Mapping), value)
    if kind in (collections.abc.Callable, Callable):
        return _keep_if(_is_callable(value), value)
    return _fit_class(value, kind)


def _named(kind: type) -> str:
    return with_article(kind.__name__.rpartition(".")[2])


def takes(annotation: Any, named: Callable[[type], str] = _named) -> str:
    """What a field of this annotation takes, to end the sentence 'it takes …'.

    Args:
      annotation: of the field.
      named: says it of a class or protocol.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if _takes_anything(annotation):
        return "anything"
    if origin is typing.Annotated:
        ranges = (f" {rule}" for rule in arguments[1:] if isinstance(rule, Within))
        return takes(arguments[0], named) + "".join(ranges)
    if origin in (typing.Union, types.UnionType):
        return _either_of(list(dict.fromkeys(takes(choice, named) for choice in arguments)))
    if origin is typing.Literal:
        return either(map(repr, arguments))
    if annotation is None or annotation is type(None):
        return "None"
    kind = origin or annotation
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"({', '.join(map(_short, arguments))}){_each(arguments)}"
    if kind in _CONTAINERS:
        items = ", ".join(_short(a) for a in arguments if a is not Ellipsis)
        return f"a {kind.__name__.lower()}" + (f" of {items}{_each(arguments)}" if items else "")
    if kind in _LITERALS:
        return _LITERALS[kind]
    if not isinstance(kind, type):
        return str(annotation)
    if issubclass(kind, enum.Enum):
        return either(member.name for member in kind)
    return named(kind)


def _either_of(kinds: list[str]) -> str:
    """As `either`; a comma keeps apart what has commas inside."""
    *most, last = kinds
    return f"{', '.join(most)}, or {last}" if most and ", " in "".join(most) else either(kinds)


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
    if not isinstance(value, tuple | list | range):
        raise Misfit
    container = list if kind is list else tuple
    if not arguments:
        return container(value)
    if kind is not tuple or arguments[-1] is Ellipsis:
        return container(fit(item, arguments[0]) for item in value)
    if len(value) != len(arguments):
        raise Misfit
    return tuple(fit(item, argument) for item, argument in zip(value, arguments, strict=True))


def _plain(value: Any) -> Any:
    """A number, truth value or text of NumPy's or JAX's as Python's."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        with contextlib.suppress(Exception):  # of a traced one nothing is known
            return value.item()
    return value


def _fit_number(value: Any, kind: type) -> Any:
    if isinstance(value, bool):
        raise Misfit
    try:
        if kind is int:
            return operator.index(value)
        if kind is float and isinstance(value, numbers.Real):
            return float(value)
        if kind is complex and isinstance(value, numbers.Complex):
            return complex(value)
    except (TypeError, OverflowError) as error:  # of hundreds of digits
        raise Misfit from error
    raise Misfit


def _fit_class(value: Any, kind: Any) -> Any:
    if not isinstance(kind, type):
        return value  # a form of annotation that is not understood decides nothing
    if kind in (int, float, complex, bool, str):
        value = _plain(value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind in (int, float, complex):
        return _fit_number(value, kind)
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    if issubclass(kind, enum.Enum) and isinstance(value, str) and value in kind.__members__:
        return kind[value]
    if isinstance(value, bool) and kind is not bool:
        raise Misfit
    if (made := constructor_of(value)) is not None:
        if not makes(made, kind) and not (made is type(value) and has_members(value, kind)):
            raise Misfit(lacking(made, kind))
        return value
    if is_protocol(kind):
        raise Misfit  # a literal is no piece
    try:
        return _keep_if(isinstance(value, kind), value)
    except TypeError:  # a form of annotation that is not understood, either
        return value


def _is_callable(value: Any) -> bool:
    made = constructor_of(value)
    if made is None or made is type(value):
        return callable(value)
    if isinstance(made, type):
        return any("__call__" in vars(base) for base in made.__mro__)
    return not isinstance(annotations_of(made).get("return"), type)


def _keep_if(fits: bool, value: Any) -> Any:
    if not fits:
        raise Misfit
    return value


def _short(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return getattr(annotation, "__name__", str(annotation))


def _each(items: tuple) -> str:
    """The range that all items of a container have, if it is one."""
    found = {rule for item in items for rule in typing.get_args(item)[1:]}
    return f", each {found.pop()}" if len(found) == 1 else ""


def _is_understood(annotation: Any) -> bool:
    """Whether all that it names are numbers, texts, containers and classes of this program."""
    if typing.get_origin(annotation) is typing.Literal or isinstance(annotation, Within | str):
        return True
    inner = typing.get_args(annotation)
    if inner:
        return all(_is_understood(each) for each in inner if not isinstance(each, list))
    if not isinstance(annotation, type):
        return annotation in (None, Any, Ellipsis)
    package = annotation.__module__.partition(".")[0]
    return package in _PACKAGES or annotation in (*_LITERALS, *_CONTAINERS, complex, type(None))


_PACKAGES = ("data", "diffusion_ode", "experiments")


def is_declared(annotation: Any) -> bool:
    """Whether it says more than a class: a range, or choices."""
    if typing.get_origin(annotation) is typing.Literal or isinstance(annotation, Within):
        return True
    return any(map(is_declared, typing.get_args(annotation)))
