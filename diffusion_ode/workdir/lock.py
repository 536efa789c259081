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
from diffusion_ode.workdir.files import Held, held, is_still

LOCK_NAME = ".lock"
_REMEDY = "choose another --workdir"


class WorkdirLock:
    """What this process holds; of several processes only the first holds anything.

    Attributes:
      content: of the file, which names the process.
    """

    def __init__(self, path: Path, descriptor: int | None = None, content: str = ""):
        self._path, self._descriptor, self.content = path, descriptor, content

    def is_ours(self) -> bool:
        """Whether it is there and nobody else's: a folder may be removed, put elsewhere or emptied.

        Where there is no `flock`, who stood still for long may find that another has taken it.
        """
        if self._descriptor is None:
            return True
        with contextlib.suppress(OSError):
            there = read_regular(self._path, len(self.content) << 3)
            return is_still(self._path, self._descriptor) and there == self.content.encode()
        return False

    def check(self, needed: str) -> None:
        """Refuses to go on without it.

        Args:
          needed: a file that has been in the folder, too.

        Raises:
          UserError: it is no longer ours, or that file is no longer there.
        """
        if self._descriptor is None:
            return
        folder = self._path.parent
        if not (self.is_ours() and (folder / needed).exists()):
            raise UserError(
                f"{folder} has been removed, emptied, put elsewhere or taken by another"
                " launch meanwhile, so nothing more is written: put it back to go on from its"
                " newest checkpoint, or run the same command again to begin anew."
            )


@contextlib.contextmanager
def workdir_lock(
    workdir: Path, command: str | None = None, remedy: str = _REMEDY
) -> Iterator[WorkdirLock]:
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
    path = workdir / LOCK_NAME
    with contextlib.ExitStack() as stack:
        lock = WorkdirLock(path)

        def take() -> str:
            nonlocal lock
            lock = stack.enter_context(_locked(path, _this_process(command), remedy))
            return lock.content

        content = processes.by_leader(take)
        processes.together(lambda: _check_seen(path, content))
        yield lock


@contextlib.contextmanager
def _locked(path: Path, content: str, remedy: str) -> Iterator[WorkdirLock]:
    workdir = path.parent
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        while True:
            with held(path, wait=False) as descriptor:
                if os.fstat(descriptor).st_nlink > 1:  # another file, too, which stays as it is
                    path.unlink()
                    continue
                try:
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, content.encode(), 0)
                    os.fsync(descriptor)  # for those who read it over a network
                except OSError:
                    path.unlink()
                    raise
                lock = WorkdirLock(path, descriptor, content)
                try:
                    yield lock
                finally:
                    if lock.is_ours():
                        path.unlink()
                    with contextlib.suppress(OSError):  # no longer empty: then it shall stay
                        for folder in made:
                            folder.rmdir()
                return
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
