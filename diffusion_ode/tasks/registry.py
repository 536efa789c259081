"""The tasks: what a run can do, known by name before anything is imported."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_ode.errors import UserError
from diffusion_ode.outside import outside_module
from diffusion_ode.suggestions import all_of, suggestion


@dataclass(frozen=True)
class TaskEntry:
    """What is known of a task before it is imported.

    Attributes:
      name: exact, as given to `--task`.
      target: `module:Class` of a frozen dataclass with `run(run: Run) -> TaskResult`.
      description: one line for the listing.
      flags: flags of the command line (without dashes) that only this task takes, and their help.
    """

    name: str
    target: str
    description: str
    flags: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> type:
        """The task's class, imported now."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


TASKS = (
    TaskEntry("train", "diffusion_ode.tasks.train:Train", "train; run again: resume"),
    TaskEntry(
        "evaluate",
        "diffusion_ode.tasks.evaluate:Evaluate",
        "bits per dimension of held-out images: variational bound and ODE",
    ),
    TaskEntry("sample", "diffusion_ode.tasks.sample:Sample", "draw images: samples.npz, a picture"),
    TaskEntry(
        "fid",
        "diffusion_ode.tasks.fid:Fid",
        "FID, KID, Inception score, precision and recall of the samples",
    ),
    TaskEntry(
        "compare",
        "diffusion_ode.tasks.compare:Compare",
        "difference of two evaluations, paired where it can be",
        {"with": "WORKDIR of the other model"},
    ),
    TaskEntry(
        "compress",
        "diffusion_ode.tasks.compress:Compress",
        "images as one file, decoded again and compared",
    ),
    TaskEntry(
        "decompress", "diffusion_ode.tasks.decompress:Decompress", "the images of such a file"
    ),
    TaskEntry(
        "dequantizer",
        "diffusion_ode.tasks.dequantizer:Dequantizer",
        "train a dequantisation for the trained model",
    ),
)
"""Of the program; anybody else's task is named `module:Class`."""


def find(name: str) -> TaskEntry:
    """The task of exactly this name, or the class that `module:Class` names.

    Raises:
      UserError: there is none; the sentence names the nearest one.
    """
    if ":" in name:
        return _outside(name)
    by_name = {entry.name: entry for entry in TASKS}
    if name not in by_name:
        raise UserError(f"There is no task {name!r}; {suggestion(name, by_name)}")
    return by_name[name]


def configured(entry: TaskEntry, experiment: Any) -> Any:
    """The task as the experiment configures it: in its own field, in `tasks`, or by its defaults.

    Raises:
      UserError: the experiment does not configure it, and not all of its fields have defaults.
    """
    kind = entry.load()
    given = getattr(experiment, entry.name, None) or next(
        (task for task in getattr(experiment, "tasks", ()) if type(task) is kind), None
    )
    if given is not None:
        return given
    parameters = inspect.signature(kind).parameters.values()
    missing = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if missing:
        raise UserError(
            f"The task {entry.name!r} needs {all_of(missing)}: configure it in the experiment's"
            " `tasks`, or give its fields defaults."
        )
    return kind()


def _outside(reference: str) -> TaskEntry:
    module = outside_module(reference, "task")
    name = reference.partition(":")[2]
    own = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and hasattr(value, "run")
    }
    if name not in own:
        raise UserError(
            f"The module {module.__name__!r} has no class {name!r} with a method `run`;"
            f" {suggestion(name, own)}"
        )
    return TaskEntry(reference, reference, (own[name].__doc__ or "").partition("\n")[0])
