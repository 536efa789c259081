"""Which piece of an experiment has raised what a task ended with."""

import dataclasses
import traceback
from collections.abc import Iterator
from typing import Any

from diffusion_ode.tasks.run import Task

_FLAXS_OWN = ("parent", "name")  # fields of every module


def piece_at_fault(error: BaseException, experiment: Any, task: str) -> str | None:
    """The innermost piece among whose own methods an error was raised, as `path (Class)`.

    Args:
      error: that was caught.
      experiment: whose pieces are looked for.
      task: that was under way; of equal pieces its own is named.
    """
    found = _pieces(experiment)
    pieces = [(at, piece) for at, piece in found if "." in at and not isinstance(piece, Task)]
    pieces.sort(key=lambda found: not found[0].startswith(f"{task}."))
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        owner = frame.f_locals.get("self")
        same = [path for path, piece in pieces if piece is owner]
        # A copy, with a field of its own or bound to parameters, is of the same class.
        alike = [path for path, piece in pieces if type(piece) is type(owner)]
        for path in (same or alike)[:1]:
            return f"{path} ({type(owner).__name__})"
    return None


def _pieces(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple | list):
        for number, item in enumerate(value):
            yield from _pieces(item, f"{path}[{number}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield path, value
        for field in dataclasses.fields(value):
            if field.name not in _FLAXS_OWN:
                inner = f"{path}.{field.name}" if path else field.name
                yield from _pieces(getattr(value, field.name, None), inner)
