"""Plain objects from a config document, executing nothing but constructors on an allow-list.

What a document may name is listed in `allowed`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusion_ode.checking import Misfit, fit, shown, takes
from diffusion_ode.configs import allowed
from diffusion_ode.conformance import annotations_of, is_linen_module
from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import suggestion

Document = Any
"""One node of a document's tree; recursive, which annotations cannot say usefully."""


LINEN_BOOKKEEPING = frozenset({"parent", "name"})
"""Fields that every Flax module has for Flax's own use; no part of a config."""

MAX_DEPTH = 32  # an experiment is about 6 deep
MAX_NODES = 10_000  # an experiment has a few hundred

_USE_ANOTHER = "use the folder of a run that you trust"
_RESTORE = "restore the file from a checkpoint of its run"


def build(document: Document, *, trusted: Sequence[str] = ()) -> Any:
    """The object that a document describes.

    Args:
      document: a tree of constructor calls, see `documents`.
      trusted: modules and packages outside the program that may be imported and called, too.

    Raises:
      UserError: the document names something outside the allow-list, gives a field that its class
        does not have, lacks one that it needs, or is too deep or too large.
    """
    check_size(document)
    return _build(document, "config", trusted)


def document_of(value: Any) -> Document:
    """The document of an object, every field spelt out; `build` makes an equal one of it.

    Raises:
      UserError: the object holds something that a document cannot write down.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        constructor = type(value)
        fields = {name: document_of(getattr(value, name)) for name in fields_of(constructor)}
        return {"call": allowed.reference_of(constructor), "arguments": fields}
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return {"tuple": list(map(document_of, value))}
        case list():
            return list(map(document_of, value))
        case dict():
            return {"dict": {key: document_of(item) for key, item in value.items()}}
    if name := allowed.name_of(value):
        return {"name": name}
    raise UserError(
        f"A config cannot hold {value!r} of type {type(value).__name__}; use literals, tuples and "
        "dataclasses."
    )


@functools.cache
def fields_of(constructor: Callable) -> Mapping[str, inspect.Parameter]:
    """What a constructor takes, less Flax's bookkeeping, in its order; `*args` by that name."""
    parameters = _parameters(constructor)
    if is_linen_module(constructor):
        return {name: p for name, p in parameters.items() if name not in LINEN_BOOKKEEPING}
    return parameters


@functools.cache
def defaults_of(constructor: Callable) -> Mapping[str, Any]:
    """The defaults of the fields that have one, made once: to be read, not changed."""
    known = fields_of(constructor)
    defaults = {name: p.default for name, p in known.items() if p.default is not p.empty}
    if dataclasses.is_dataclass(constructor):
        for field in dataclasses.fields(constructor):
            if field.name in known and field.default_factory is not dataclasses.MISSING:
                defaults[field.name] = field.default_factory()
    return defaults


def check_size(document: Document) -> None:
    """Before anything recursive: a document too deep or too large is refused, not survived.

    Raises:
      UserError: it is.
    """
    level, nodes = [document], 0
    for _ in range(2 * MAX_DEPTH):  # a call takes two levels: itself and its arguments
        nodes += len(level)
        if not level or nodes > MAX_NODES:
            break
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    if level:
        raise UserError(
            f"The config has more than {MAX_NODES} entries or is nested more than {MAX_DEPTH} "
            f"deep, more than any run's config: {_USE_ANOTHER}."
        )


def _build(document: Document, where: str, trusted: Sequence[str]) -> Any:
    match document:
        case None | bool() | int() | float() | str():
            return document
        case list():
            return [_build(item, f"{where}[{i}]", trusted) for i, item in enumerate(document)]
        case {"tuple": list(items), **others} if not others:
            return tuple(_build(item, f"{where}[{i}]", trusted) for i, item in enumerate(items))
        case {"dict": dict(items), **others} if not others:
            return {key: _build(item, f"{where}[{key}]", trusted) for key, item in items.items()}
        case {"name": str(reference), **others} if not others:
            return allowed.locate_name(reference, trusted)
        case {"call": str(reference), "arguments": dict(arguments), **others} if not others:
            return _construct(reference, arguments, where, trusted)
    raise UserError(
        f"{where} is neither a literal nor one of the forms call, name, tuple and dict that a "
        f"config is made of: {_RESTORE}."
    )


def _construct(reference: str, arguments: dict, where: str, trusted: Sequence[str]) -> Any:
    constructor = allowed.locate_constructor(reference, trusted)
    known = fields_of(constructor)
    for name in arguments:
        if name not in known:
            raise UserError(
                f"{where}: {reference} has no field {name!r}; {suggestion(name, known)}"
            )
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments and name[0] != "*":
            raise UserError(f"{where}: {reference} lacks its field {name!r}: {_RESTORE}.")
    values = {name: _build(value, f"{where}.{name}", trusted) for name, value in arguments.items()}
    _check_types(constructor, values, where)
    several = values.pop(next((name for name in values if name[0] == "*"), ""), ())
    if not isinstance(several, tuple):
        raise UserError(f"{where}: {reference} takes any number of arguments: {_RESTORE}.")
    return constructor(*several, **values)


def _check_types(constructor: Callable, values: Mapping[str, Any], where: str) -> None:
    """By the constructor's annotations; its own defaults are right, whatever those say."""
    hints = annotations_of(constructor)
    for name, value in values.items():
        hint = hints.get(name, Any)
        default = _parameters(constructor)[name].default
        if value is default or (type(value) is type(default) and value == default):
            continue
        try:
            fit(value, tuple[hints.get(name[1:], Any), ...] if name[0] == "*" else hint)
        except Misfit as misfit:
            raise UserError(
                f"{where}.{name} = {shown(value)} is not {takes(hint)}: {_RESTORE}."
            ) from misfit


@functools.cache
def _parameters(constructor: Callable) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(constructor).parameters.values()
    return {f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name: p for p in parameters}
