"""The registered tasks: what a run can do, known by name before anything is imported."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import suggestion


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
        "bits per dimension on the test set: variational bound and ODE",
    ),
    TaskEntry("sample", "diffusion_ode.tasks.sample:Sample", "draw images: samples.npz, a picture"),
    TaskEntry(
        "compare",
        "diffusion_ode.tasks.compare:Compare",
        "paired difference of two evaluated models",
        {"with": "WORKDIR of the other model"},
    ),
)
"""One entry a task."""


def find(name: str) -> TaskEntry:
    """The task of exactly this name.

    Raises:
      UserError: there is none; the sentence names the nearest one.
    """
    by_name = {entry.name: entry for entry in TASKS}
    if name not in by_name:
        raise UserError(f"There is no task {name!r}; {suggestion(name, by_name)}")
    return by_name[name]


def configured(entry: TaskEntry, experiment: Any) -> Any:
    """The task as the experiment configures it, or with its defaults if it has no field for it."""
    configured_task = getattr(experiment, entry.name, None)
    return entry.load()() if configured_task is None else configured_task
