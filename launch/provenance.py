"""What a launch leaves behind about itself: `run.json` and `log.txt`."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffusion_ode.configs import documents
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.run import Run
from diffusion_ode.workdir.files import held

_LIBRARIES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "fiddle"),
    *("numpy", "tensorboardX", "scikit-learn"),
)


@contextlib.contextmanager
def recorded(run: Run, task: str) -> Iterator[Run]:
    """Adds this launch to the workdir's `run.json` when it begins, and how it ended at its end.

    An entry without `stopped` was killed, or still runs. Of a launch that was refused or
    interrupted before it began nothing is written.

    Yields the run with the recorder that adds to the entry; of several processes the leader's.
    """
    if not processes.is_leader():
        yield run
        return
    launch = _Launch(run.workdir / "run.json", _facts(run, task))
    try:
        yield dataclasses.replace(run, recorder=launch)
    except UserError as refusal:
        launch.end(f"refused: {refusal}")
        raise
    except Exception as failure:
        launch.begin()  # it leaves a traceback in the workdir
        launch.end(f"failed: {failure}")
        raise
    except BaseException:  # by a signal
        launch.end("interrupted")
        raise
    launch.begin()
    launch.add({"devices": _devices()})
    launch.end("done")


def log_failure(path: Path, error: Exception) -> None:
    """Appends the traceback to the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.writelines([f"{_now()}\n", *traceback.format_exception(error)])


class _Launch:
    """This launch's entry among all of the workdir's.

    The file is read and replaced whole each time, and held meanwhile: an evaluation may run beside
    the training.
    """

    def __init__(self, path: Path, facts: dict[str, Any]):
        self._path = path
        self._facts = facts
        self._begun = False

    def begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._write()

    def add(self, facts: Mapping[str, Any]) -> None:
        self._facts |= facts
        if self._begun:
            self._write()

    def end(self, outcome: str) -> None:
        self.add({"stopped": _now(), "outcome": outcome})

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with held(self._path):
            others = [e for e in self._entries() if self._key(e) != self._key(self._facts)]
            documents.write({"launches": [*others, self._facts]}, self._path)

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
        "command": run.command_line,
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


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
