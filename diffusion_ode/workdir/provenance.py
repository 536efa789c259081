"""What a launch leaves behind about itself: `run.json` and the traceback in `log.txt`."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError, in_words
from diffusion_ode.workdir.code import code_facts, keep_code
from diffusion_ode.workdir.files import held, identity, keep_aside
from diffusion_ode.workdir.result_files import read_json, write_json

_LIBRARIES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "fiddle"),
    *("numpy", "tensorboardX", "scikit-learn"),
)


class LaunchRecord:
    """This launch's entry among all of the workdir's.

    The file is read and replaced whole each time, and held meanwhile: an evaluation may run beside
    the training. A damaged one is kept under another name.

    Args:
      path: the workdir's `run.json`; None records nothing, as in tests and notebooks.
      facts: known at the beginning.
    """

    def __init__(self, path: Path | None = None, facts: Mapping[str, Any] | None = None):
        self._path = path
        self._facts = dict(facts or {})
        self._begun = False
        self._workdir: tuple[int, int] | None = None

    def begin(self) -> None:
        """From now on it is written down."""
        if not self._begun:
            self._begun = True
            self._write()
            if self._path is not None:
                self._workdir = identity(self._path.parent)
                keep_code(self._path.parent)

    def add(self, facts: Mapping[str, Any]) -> None:
        """More facts; they are written once it has begun."""
        self._facts |= facts
        if self._begun and not self._is_gone():
            self._write()

    def check_there(self) -> None:
        """Refuses to go on where another folder, or none, has the workdir's name by now.

        Raises:
          UserError: the one in which this launch began was removed, emptied or put elsewhere.
        """
        if self._path is not None and self._is_gone():
            raise UserError(
                f"{self._path.parent} has been removed, emptied or put elsewhere meanwhile, so"
                " nothing more is written: put it back, or run the same command again to begin"
                " anew."
            )

    def _is_gone(self) -> bool:
        if self._path is None or self._workdir is None:
            return False
        return identity(self._path.parent) != self._workdir or not self._path.exists()

    def end(self, outcome: str) -> None:
        """How it ended; nothing is written about one that never began."""
        self.add({"stopped": _now(), "outcome": outcome})

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with held(self._path):
            launches, whole = _read(self._path)
            if not whole:
                keep_aside(self._path, "of earlier launches")
            others = [launch for launch in launches if _key(launch) != _key(self._facts)]
            write_json(self._path, {"launches": [*others, self._facts]})


@contextlib.contextmanager
def recorded(workdir: Path, **facts: Any) -> Iterator[LaunchRecord]:
    """Adds this launch to the workdir's `run.json` when it begins, and how it ended at its end.

    An entry names the code, whose changes since git's revision are kept beside it. One without
    `stopped` was killed, or still runs. Of a launch that was refused or interrupted before it began
    nothing is written; of several processes only the leader writes.

    Args:
      workdir: of the launch.
      facts: to begin with, such as the task and the command.
    """
    if not processes.is_leader():
        yield LaunchRecord()
        return
    launch = LaunchRecord(workdir / "run.json", facts | _circumstances())
    try:
        yield launch
    except UserError as refusal:
        launch.end(f"refused: {refusal}")
        raise
    except Exception as failure:
        launch.check_there()  # it may have failed by that, and there is no place for a log
        with contextlib.suppress(OSError):  # whose disk is full has failed by that
            launch.begin()  # it leaves a traceback in the workdir
            launch.end(f"failed: {failure}")
        raise
    except BaseException:  # by a signal
        launch.end("interrupted")
        raise
    launch.begin()
    launch.check_there()
    launch.add({"devices": _devices()})
    launch.end("done")


def launches_of(workdir: Path) -> list[dict[str, Any]]:
    """The entries of a workdir's `run.json`, of which any field may be missing or anything.

    None if there is no such file, or it is damaged: provenance is not worth failing for.
    """
    return _read(workdir / "run.json")[0]


def log_failure(path: Path, error: Exception) -> str | None:
    """Appends the traceback to the log; why it cannot be written, if so: this itself never fails.

    Of what the log already has, such as half a line on a full disk, nothing is lost.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.writelines([f"{_now()}\n", *traceback.format_exception(error)])
    except Exception as unwritable:
        return in_words(unwritable)
    return None


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The entries of a `run.json`, and whether there is nothing else in it."""
    try:
        if not path.stat().st_size:  # just made, to be held
            return [], True
        found = read_json(path)["launches"]
        launches = [launch for launch in found if isinstance(launch, dict)]
        return launches, len(launches) == len(found)
    except Exception:
        return [], False


def _key(entry: Mapping[str, Any]) -> tuple:
    return tuple(entry.get(name) for name in ("host", "process", "started", "task"))


def _circumstances() -> dict[str, Any]:
    return {
        "folder": str(Path.cwd()),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _now(),
        "code": code_facts(),
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
