"""The registered experiments: facts known without building any, configs made on demand.

An experiment is a function from its parent's config to its own; a root takes nothing. Its name is
the function's, its hypothesis the docstring's first paragraph:

    @experiment(parent="digits_vp")
    def digits_sp(config):
        \"\"\"The straight path needs fewer evaluations at the same likelihood.\"\"\"
        from diffusion_ode.diffusion.straight_path import StraightPath

        config.model.path = fdl.Config(StraightPath)
        return config

Pieces are imported inside the function, so that listing a hundred experiments imports no JAX.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import fiddle as fdl

from diffusion_ode.errors import UserError
from diffusion_ode.outside import outside_module
from diffusion_ode.suggestions import suggestion
from experiments.config.conversion import complete


class Departure(NamedTuple):
    """A value of an experiment that is not its paper's or its released configuration's."""

    published: bool | float | str | None  # in words where it is no plain value
    why: str


@dataclass(frozen=True)
class Entry:
    """What is known of an experiment before it is built.

    Attributes:
      name: exact, as given to `--exp`.
      function: from the parent's config, or from nothing, to this experiment's.
      parent: the name of the experiment it derives from; None for a root.
      hypothesis: what the experiment is to show, in one paragraph.
      data: the data set, for the listing; None: the parent's.
      source: the paper, where there is one.
      published: the published bits per dimension, where there are any.
      differs: values, by path, that are not as published, besides those of the parent.
    """

    name: str
    function: Callable[..., fdl.Config]
    parent: str | None
    hypothesis: str
    data: str | None = None
    source: str | None = None
    published: float | None = None
    differs: Mapping[str, Departure] = field(default_factory=dict)


_ENTRIES: dict[str, Entry] = {}


def experiment(
    *,
    parent: str | None = None,
    data: str | None = None,
    source: str | None = None,
    published: float | None = None,
    differs: Mapping[str, Departure] | None = None,
) -> Callable[[Callable[..., fdl.Config]], Callable[..., fdl.Config]]:
    """Registers the decorated function under its own name; see `Entry` for the arguments.

    Raises:
      UserError: the name is taken by another function, or the docstring is missing.
    """

    def register(function: Callable[..., fdl.Config]) -> Callable[..., fdl.Config]:
        hypothesis = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
        words = " ".join(hypothesis.split())
        name, facts = function.__name__, (data, source, published, differs or {})
        add(Entry(name, function, parent, words, *facts))
        return function

    return register


def add(entry: Entry) -> None:
    """Registers an experiment; `experiment` is the usual way.

    Raises:
      UserError: the name is taken by another function, or the hypothesis is missing.
    """
    taken = _ENTRIES.get(entry.name)
    if taken is not None and _origin(taken.function) != _origin(entry.function):
        raise UserError(
            f"The experiment {entry.name!r} of {entry.function.__module__} is already registered by"
            f" {taken.function.__module__}: give it another name."
        )
    if not entry.hypothesis:
        raise UserError(f"The experiment {entry.name!r} states no hypothesis: give it a docstring.")
    _ENTRIES[entry.name] = entry


def entries() -> list[Entry]:
    """All registered experiments, in the order of their registration: children after parents."""
    _register_all()
    return list(_ENTRIES.values())


def find(name: str) -> Entry:
    """The experiment of exactly this name, or the function that `module:function` names.

    Raises:
      UserError: there is none; the sentence names the nearest ones.
    """
    _register_all()
    if ":" in name:
        return _outside(name)
    if name not in _ENTRIES:
        raise UserError(f"There is no experiment {name!r}; {suggestion(name, _ENTRIES)}")
    return _ENTRIES[name]


def ancestry(entry: Entry) -> list[Entry]:
    """The experiment and all that it derives from, root first.

    Raises:
      UserError: a parent is not registered, or an experiment derives from itself.
    """
    line = [entry]
    while line[0].parent is not None:
        parent = find(line[0].parent)
        if parent in line:
            raise UserError(f"The experiment {entry.name!r} derives from itself: break the circle.")
        line.insert(0, parent)
    return line


def data_of(entry: Entry) -> str:
    """The name of the data set: its own, else its nearest ancestor's."""
    named = [ancestor.data for ancestor in ancestry(entry) if ancestor.data]
    return named[-1] if named else "?"


def images_of(entry: Entry) -> str:
    """The registered name of the images that it is judged by, whatever training does to them."""
    return data_of(entry).partition(",")[0]


def departures_of(entry: Entry) -> dict[str, Departure]:
    """The values that are not as published and why, its ancestors' first."""
    return {path: d for each in ancestry(entry) for path, d in each.differs.items()}


def configuration_of(entry: Entry) -> fdl.Config:
    """The experiment's whole config, every default spelt out.

    Each function is given its parent's config made explicit, so it can change any field, and gets
    a copy to itself, so it cannot change its parent.
    """
    config = None
    for ancestor in ancestry(entry):
        made = ancestor.function() if ancestor.parent is None else ancestor.function(config)
        if not isinstance(made, fdl.Config):
            raise UserError(
                f"The experiment {ancestor.name!r} returned {type(made).__name__}: let its "
                "function return the config."
            )
        config = complete(made)
    assert config is not None  # an ancestry holds at least the experiment itself
    return config


def _register_all() -> None:
    """Importing the package registers its experiments; a second import does nothing."""
    importlib.import_module("experiments")


def _origin(function: Callable) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _outside(reference: str) -> Entry:
    module = outside_module(reference, "experiment")
    function_name = reference.partition(":")[2]
    functions = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }
    if function_name not in functions:
        raise UserError(
            f"The module {module.__name__!r} has no function {function_name!r}; "
            f"{suggestion(function_name, functions)}"
        )
    function = functions[function_name]
    for entry in _ENTRIES.values():
        if entry.function is function:
            return entry
    if inspect.signature(function).parameters:
        raise UserError(
            f"The experiment {reference!r} takes its parent's config but names no parent: decorate "
            'it with @experiment(parent="…") of experiments.registry.'
        )
    hypothesis = " ".join(
        (function.__doc__ or "No hypothesis stated.").partition("\n\n")[0].split()
    )
    return Entry(function_name, function, None, hypothesis)
