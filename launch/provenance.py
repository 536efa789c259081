"""What a launch leaves behind about itself: `run.json` and `log.txt`."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusion_ode import documents
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.run import Run

LOG_NAME = "log.txt"
_LIBRARIES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "fiddle"),
    *("numpy", "tensorboardX", "scikit-learn"),
)


@contextlib.contextmanager
def recorded(run: Run, task: str) -> Iterator[Run]:
    """Adds this launch to the workdir's `run.json` at its start, and how it ended at its end.

    Yields the run with `note` adding to the same entry.
    """
    launch = _Launch(run.workdir / "run.json", _facts(run, task))
    launch.add({})
    try:
        yield dataclasses.replace(run, recorder=launch.add)
    except BaseException as error:
        launch.end(_outcome(error))
        raise
    launch.end("done")


def log_failure(workdir: Path, error: Exception) -> Path:
    """Appends the traceback to the workdir's `log.txt`; returns its path."""
    path = workdir / LOG_NAME
    with path.open("a", encoding="utf-8") as log:
        log.writelines([f"{_now()}\n", *traceback.format_exception(error)])
    return path


class _Launch:
    """This launch's entry among all of the workdir's.

    The file is read and replaced whole each time: an evaluation may run beside the training.
    """

    def __init__(self, path: Path, facts: dict[str, Any]):
        self._path = path
        self._facts = facts

    def add(self, facts: dict[str, Any]) -> None:
        self._facts |= facts
        others = [entry for entry in self._entries() if self._key(entry) != self._key(self._facts)]
        documents.write({"launches": [*others, self._facts]}, self._path)

    def end(self, outcome: str) -> None:
        facts: dict[str, Any] = {"stopped": _now(), "outcome": outcome}
        if outcome == "done":  # then it has used them; asking earlier would start the backend
            facts["devices"] = _devices()
        self.add(facts)

    def _entries(self) -> list[dict[str, Any]]:
        try:
            return list(json.loads(self._path.read_text(encoding="utf-8"))["launches"])
        except (OSError, ValueError, KeyError, TypeError):
            return []  # none yet, or damaged: provenance is not worth failing a run for

    @staticmethod
    def _key(entry: dict[str, Any]) -> tuple:
        return tuple(entry.get(name) for name in ("host", "process", "started", "task"))


def _facts(run: Run, task: str) -> dict[str, Any]:
    return {
        "task": task,
        "experiment": run.name,
        "command": shlex.join(["python", *run.command]),
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _now(),
        "data": run.experiment.data.name,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def _devices() -> list[str]:
    jax = sys.modules.get("jax")
    return [] if jax is None else [device.device_kind for device in jax.devices()]


def _outcome(error: BaseException) -> str:
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "interrupted"
    return f"{'refused' if isinstance(error, UserError) else 'failed'}: {error}"


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
