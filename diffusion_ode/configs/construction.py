"""Plain objects from a config document, executing nothing but constructors on an allow-list.

A document (see `documents`) may come from anywhere: a downloaded checkpoint, a mailed folder. So
what it may name is closed:

- dataclasses and Flax modules, in the module that defines them, of the packages in `PACKAGES`;
- the names of Flax, JAX and Optax listed below;
- classes and functions of the modules that the caller trusts, in the module that defines them.

A name is one attribute of one module: nothing is traversed and nothing is evaluated.
"""

import dataclasses
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusion_ode.configs.optax_names import OPTAX
from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import suggestion

Document = Any
"""One node of a document's tree; recursive, which annotations cannot say usefully."""

PACKAGES = ("diffusion_ode", "data")
"""The packages whose classes any document may name."""

LIBRARY_CONSTRUCTORS: Mapping[str, frozenset[str]] = OPTAX
"""Constructors of libraries that a document may call."""

LIBRARY_NAMES: Mapping[str, frozenset[str]] = {
    "flax.linen": frozenset(
        ["celu", "elu", "gelu", "relu", "selu", "sigmoid", "silu", "softplus", "swish", "tanh"]
    ),
    "jax.nn": frozenset(["mish", "relu6", "squareplus"]),
    "jax.numpy": frozenset(["bfloat16", "float16", "float32", "float64", "int32", "uint8"]),
}
"""Functions and dtypes of libraries that a document may name without calling them."""

LINEN_BOOKKEEPING = frozenset({"parent", "name"})
"""Fields that every Flax module has for Flax's own use; no part of a config."""

MAX_DEPTH = 32  # an experiment is about 6 deep
MAX_NODES = 10_000  # an experiment has a few hundred

_USE_ANOTHER = "use the folder of a run that you trust"
_RESTORE = "restore the file from a checkpoint of its run"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")


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
        return {"call": reference_of(constructor), "arguments": fields}
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return {"tuple": list(map(document_of, value))}
        case list():
            return list(map(document_of, value))
        case dict():
            return {"dict": {key: document_of(item) for key, item in value.items()}}
    if name := name_of(value):
        return {"name": name}
    raise UserError(
        f"A config cannot hold {value!r} of type {type(value).__name__}; use literals, tuples and "
        "dataclasses."
    )


def fields_of(constructor: Callable) -> dict[str, inspect.Parameter]:
    """What a constructor takes, less Flax's bookkeeping, in its order; `*args` by that name."""
    parameters = _parameters(constructor)
    if is_linen_module(constructor):
        return {name: p for name, p in parameters.items() if name not in LINEN_BOOKKEEPING}
    return dict(parameters)


def defaults_of(constructor: Callable) -> dict[str, Any]:
    """The defaults of the fields that have one."""
    known = fields_of(constructor)
    defaults = {name: p.default for name, p in known.items() if p.default is not p.empty}
    if dataclasses.is_dataclass(constructor):
        for field in dataclasses.fields(constructor):
            if field.name in known and field.default_factory is not dataclasses.MISSING:
                defaults[field.name] = field.default_factory()
    return defaults


def is_linen_module(constructor: Callable) -> bool:
    """Whether it makes a Flax module; imports nothing."""
    linen = sys.modules.get("flax.linen")
    return (
        linen is not None
        and isinstance(constructor, type)
        and issubclass(constructor, linen.Module)
    )


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
            f"deep, as no run's is: {_USE_ANOTHER}."
        )


def locate_constructor(reference: str, trusted: Sequence[str] = ()) -> Callable:
    """The class or function that `module:Name` says, if a document may call it.

    Raises:
      UserError: it may not.
    """
    module, name = _split(reference)
    if module in LIBRARY_CONSTRUCTORS:
        return _library_attribute(module, name, LIBRARY_CONSTRUCTORS[module])
    if module.partition(".")[0] not in PACKAGES:
        return _trusted_attribute(reference, trusted)
    found = vars(_import(module)).get(name)
    is_config_class = isinstance(found, type) and dataclasses.is_dataclass(found)
    if is_config_class and is_defined_in(module, name, found):
        return found
    near = suggestion(name, constructible_names(module))
    raise UserError(f"{module} defines no config class {name!r}; {near}")


def locate_name(reference: str, trusted: Sequence[str] = ()) -> Any:
    """The function or dtype that `module:name` says, if a document may name it.

    Raises:
      UserError: it may not.
    """
    module, name = _split(reference)
    if module not in LIBRARY_NAMES:
        return _trusted_attribute(reference, trusted)
    return _library_attribute(module, name, LIBRARY_NAMES[module])


def is_defined_in(module: str, name: str, thing: Any) -> bool:
    """Whether it is a class or function, and this its own module and name."""
    return (inspect.isclass(thing) or inspect.isfunction(thing)) and (
        (thing.__module__, thing.__qualname__) == (module, name)
    )


def reference_of(constructor: Callable) -> str:
    """`module:Name` of a class or function, as documents write it."""
    for module, names in LIBRARY_CONSTRUCTORS.items():
        name = getattr(constructor, "__name__", "")
        if name in names and _loaded_attribute(module, name) is constructor:
            return f"{module}:{name}"
    return f"{constructor.__module__}:{constructor.__qualname__}"


def name_of(thing: Any) -> str | None:
    """`module:name` of a library's function or dtype, or of an outsider's function, else None."""
    for module, names in LIBRARY_NAMES.items():
        for name in sorted(names):
            if _loaded_attribute(module, name) is thing:
                return f"{module}:{name}"
    own = inspect.isfunction(thing) and thing.__module__.partition(".")[0] not in PACKAGES
    if own and _loaded_attribute(thing.__module__, thing.__name__) is thing:
        return f"{thing.__module__}:{thing.__name__}"
    return None


def constructible_names(module: str) -> list[str]:
    """The classes of one module that a document may name."""
    return [
        name
        for name, value in vars(_import(module)).items()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__module__ == module
        and not name.startswith("_")
    ]


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
            return locate_name(reference, trusted)
        case {"call": str(reference), "arguments": dict(arguments), **others} if not others:
            return _construct(reference, arguments, where, trusted)
    raise UserError(
        f"{where} is neither a literal nor one of the forms call, name, tuple and dict that a "
        f"config is made of: {_RESTORE}."
    )


def _construct(reference: str, arguments: dict, where: str, trusted: Sequence[str]) -> Any:
    constructor = locate_constructor(reference, trusted)
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
    several = values.pop(next((name for name in values if name[0] == "*"), ""), ())
    if not isinstance(several, tuple):
        raise UserError(f"{where}: {reference} takes any number of arguments: {_RESTORE}.")
    return constructor(*several, **values)


def _split(reference: str) -> tuple[str, str]:
    if not (match := _REFERENCE.fullmatch(reference)):
        raise UserError(
            f"The config names {reference[:80]!r}, which is not of the form 'module:Name': "
            f"{_RESTORE}."
        )
    return match[1], match[2]


def _import(module: str, remedy: str = "use the version of the program that made it") -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists; a library that it needs does not
        raise UserError(
            f"The config names the module {module!r}, which is not found: {remedy}."
        ) from error


def _trusted_attribute(reference: str, trusted: Sequence[str]) -> Any:
    module, name = _split(reference)
    if not any(f"{module}.".startswith(f"{one}.") for one in trusted):
        raise UserError(
            f"The config uses {reference!r}, which is no piece of this program, so nothing of it"
            f" ran: if you trust it, load with trusted=({module!r},)."
        )
    found = vars(_import(module, "put the folder that holds it on PYTHONPATH")).get(name)
    if is_defined_in(module, name, found):
        return found
    raise UserError(f"{module} defines no class or function {name!r}: use the version that did.")


def _library_attribute(module: str, name: str, allowed: frozenset[str]) -> Any:
    if name not in allowed:
        raise UserError(f"The config may not name {module}:{name}; {suggestion(name, allowed)}")
    return getattr(importlib.import_module(module), name)


def _loaded_attribute(module: str, name: str) -> Any:
    """An attribute of a module if it is loaded: a module not loaded cannot have made the thing."""
    return getattr(sys.modules.get(module), name, _NOT_LOADED)


_NOT_LOADED = object()


@functools.cache
def _parameters(constructor: Callable) -> Mapping[str, inspect.Parameter]:
    parameters = inspect.signature(constructor).parameters.values()
    return {f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name: p for p in parameters}
