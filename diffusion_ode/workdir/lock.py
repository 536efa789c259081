"""One writer per folder: a second launcher is refused, naming the first."""

import contextlib
import datetime
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import read_regular
from diffusion_ode.workdir.files import Held, held

LOCK_NAME = ".lock"
_REMEDY = "choose another --workdir"


@contextlib.contextmanager
def workdir_lock(
    workdir: Path, command: str | None = None, remedy: str = _REMEDY
) -> Iterator[None]:
    """Hold `workdir` for writing: a training the whole one, an evaluation its own folder in it.

    The kernel frees it with the process, however that ends, so a `kill -9` leaves nothing to clean
    up. Whoever holds it has written itself into the file. In the end the file is removed, and the
    folders that were made for it if they are still empty: a refused launch leaves nothing behind.
    With several processes only the first takes the lock.

    Args:
        workdir: made if it does not exist.
        command: the command line to show to a second launcher; this process's by default.
        remedy: what that one may do instead.

    Raises:
        UserError: another launch holds it, or a process of this one does not see it.
    """
    with contextlib.ExitStack() as stack:
        lock = _locked(workdir, command, remedy)
        content = processes.by_leader(lambda: stack.enter_context(lock))
        processes.together(lambda: _check_seen(workdir / LOCK_NAME, content))
        yield


@contextlib.contextmanager
def _locked(workdir: Path, command: str | None, remedy: str) -> Iterator[str]:
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / LOCK_NAME
    try:
        with held(path, wait=False) as descriptor:
            os.ftruncate(descriptor, 0)
            content = _this_process(command)
            os.pwrite(descriptor, content.encode(), 0)
            os.fsync(descriptor)  # for those who read it over a network
            try:
                yield content
            finally:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # no longer empty: then it shall stay
                    for folder in made:
                        folder.rmdir()
    except Held as holder:
        raise UserError(_refusal(workdir, holder.content, remedy)) from None


def _check_seen(path: Path, content: str) -> None:
    """There may be an old one, of a process that was killed."""
    if not path.exists() or read_regular(path, len(content) << 3) != content.encode():
        raise UserError(
            f"{path.parent}, as seen from {socket.gethostname()}, is not the folder that process 0"
            " has locked: give all processes one --workdir, in a file system that they share."
        )


def _this_process(command: str | None) -> str:
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(sys.orig_argv) if command is None else command,
            "started": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        }
    )


def _refusal(workdir: Path, content: bytes, remedy: str) -> str:
    try:
        holder = json.loads(content)
        who = (
            f"process {holder['pid']} on {holder['host']} (`{holder['command']}`, "
            f"started {holder['started']})"
        )
    except Exception:
        # The holder is between taking the lock and writing its name.
        who = "another process"
    return f"{workdir} is in use by {who}: wait for it, stop it, or {remedy}."
