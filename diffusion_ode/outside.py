"""Modules from outside the repository, which the command line names as `module:name`."""

import importlib
from pathlib import Path
from types import ModuleType

from diffusion_ode.errors import UserError

_DEEPEST = 32  # folders that a module is in; Python goes into each before it looks for it
SOURCES: dict[str, bytes] = {}
"""By module, the files of those that were named, as they were when they were imported."""


def outside_module(reference: str, what: str) -> ModuleType:
    """The module that `module:name` names, imported.

    Args:
      reference: as given on the command line.
      what: it names there, for the sentence: "experiment", "task" or "piece".

    Raises:
      UserError: it is not there, or needs another module that is not installed.
    """
    module = reference.partition(":")[0]
    try:
        parts = module.split(".")
        if len(parts) > _DEEPEST or not all(map(str.isidentifier, parts)):
            raise ModuleNotFoundError(name=module)
        found = importlib.import_module(module)
        if found.__file__ is not None:
            SOURCES.setdefault(module, Path(found.__file__).read_bytes())
        return found
    except ModuleNotFoundError as error:
        missing = error.name
        if missing and not f"{module}.".startswith(f"{missing}."):
            raise UserError(
                f"The {what} {reference!r} needs the module {missing!r}, which is not installed:"
                " install it."
            ) from error
        raise UserError(
            f"There is no module {module!r} for the {what} {reference!r}; run from the folder that"
            " holds it, or put that folder on PYTHONPATH."
        ) from error
