"""Names that a config document may use: an allow-list.

A document may come from anywhere: a downloaded checkpoint, a mailed folder. So what it may name is
closed:

- dataclasses and Flax modules, in the module that defines them, of the packages in `PACKAGES`;
- the names of Flax, JAX and Optax listed below;
- classes and functions of the modules that the caller trusts, in the module that defines them.

A name is one attribute of one module: nothing is traversed and nothing is evaluated.
"""

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusion_ode.configs.optax_names import OPTAX
from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import suggestion

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

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
MODULE = re.compile(rf"{_NAME}(?:\.{_NAME}){{0,31}}")
"""The name of a module; no path, nothing that leads out of a folder, or deeper than imports go."""

_REFERENCE = re.compile(rf"({MODULE.pattern}):({_NAME})")


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


def module_of(reference: str) -> str:
    """The module that `module:Name` says.

    Raises:
      UserError: it is not of that form.
    """
    return _split(reference)[0]


def _split(reference: str) -> tuple[str, str]:
    if not (match := _REFERENCE.fullmatch(reference)):
        raise UserError(
            f"The config names {reference[:80]!r}, which is not of the form 'module:Name': "
            "restore the file from a checkpoint of its run."
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
            f"The config uses {reference!r}, which is not part of this program, so nothing of it"
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
