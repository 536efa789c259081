"""A lock for file systems without `flock`: whoever creates the file that was not there has it.

The file says who has it, and is written anew every few seconds. It is stale if its process, on
this machine, has ended, or if nothing has been written for so long that whoever had it must be
gone: by the clock of the one that watches, as clocks of machines differ.
"""

import contextlib
import datetime
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusion_ode.errors import UserError
from diffusion_ode.foreign import read_regular

MAX_BYTES = 1 << 16  # a few names and numbers
REFRESHED_EVERY = 5.0  # seconds
SILENT_FOR = 60.0  # seconds after which nobody has it any more
_BETWEEN_LOOKS = 0.5
_LARGEST_PROCESS = (1 << 31) - 1


@contextlib.contextmanager
def held_by_name(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a file's name; yields whether it is held.

    It is not where `wait` is off and another process has it, which takes some seconds to see of a
    process on another machine.

    Args:
      path: of the file, in a folder that exists; it is there as long as it is held.
      wait: for another process to let go of it.

    Raises:
      UserError: something else has the name.
    """
    mine = {**_place(), "started": _now(), "token": uuid.uuid4().hex}
    seen, since, said = None, time.monotonic(), False
    while not _created(path, mine):
        there = _read(path)
        if there != seen:
            first = seen is None
            seen, since = there, time.monotonic()
            if not wait and (not first or _is_alive(there)):
                yield False
                return
        silent = time.monotonic() - since
        if _is_dead(there) or silent > SILENT_FOR:
            _take_away(path, there)
            continue
        if silent > REFRESHED_EVERY and not said:
            said = True
            print(
                f"{path} has not been written since: waiting {SILENT_FOR - silent:.0f} s more"
                " before it is taken for one of a process that has ended.",
                file=sys.stderr,
            )
        time.sleep(_BETWEEN_LOOKS)
    done = threading.Event()
    refreshing = threading.Thread(target=_refresh, args=(path, mine, done), daemon=True)
    refreshing.start()
    try:
        yield True
    finally:
        done.set()
        refreshing.join()
        if _token(_read(path)) == mine["token"]:
            path.unlink(missing_ok=True)


def _created(path: Path, mine: dict[str, Any]) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserError(f"{path} is no lock, which is a file: remove it.") from None
        return False
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_text(mine))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _refresh(path: Path, mine: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(REFRESHED_EVERY):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "r+", errors="replace") as file:
                if _token(file.read(MAX_BYTES)) != mine["token"]:
                    return  # this process was stopped for long, and another has it
                file.seek(0)
                file.write(_text(mine))


def _take_away(path: Path, stale: str | None) -> None:
    """Under a name of its own first: another may have taken its place meanwhile."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if (content := _read(aside)) != stale and content is not None:
            with contextlib.suppress(FileExistsError), path.open("x") as file:
                file.write(content)
        aside.unlink(missing_ok=True)


def _text(mine: dict[str, Any]) -> str:
    """Of one length, so that it is written over the last one without room on the disk."""
    return json.dumps({**mine, "refreshed": _now()})


def _read(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return str(read_regular(path, MAX_BYTES), "utf-8")
    return None


def _said(content: str | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(said := json.loads(content or ""), dict):
            return said
    return {}  # it is just being written


def _token(content: str | None) -> str | None:
    return _said(content).get("token")


def _place() -> dict[str, Any]:
    """Where this process is: its number means something within one start of one machine."""
    machine = socket.gethostname()
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine += f" {boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    return {"machine": machine, "process": os.getpid(), "begun": _begun(os.getpid())}


def _begun(process: int) -> str | None:
    """When a process began, by the kernel's count: its number may be another's by now."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def _is_here(said: dict[str, Any]) -> bool:
    process = said.get("process")
    possible = isinstance(process, int) and 0 < process <= _LARGEST_PROCESS
    return possible and said.get("machine") == _place()["machine"]


def _is_dead(content: str | None) -> bool:
    said = _said(content)
    if not _is_here(said):
        return False
    try:
        os.kill(said["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _begun(said["process"]) != said.get("begun")


def _is_alive(content: str | None) -> bool:
    return _is_here(_said(content)) and not _is_dead(content)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(" ", "seconds")
