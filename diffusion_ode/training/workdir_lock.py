"""One writer per workdir: a second launcher is refused, naming the first."""

import contextlib
import datetime
import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diffusion_ode.errors import UserError

LOCK_NAME = ".lock"


@contextlib.contextmanager
def workdir_lock(workdir: Path, command: Sequence[str] | None = None) -> Iterator[None]:
    """Hold `workdir` for writing (the training task; evaluation and sampling need no lock).

    It is a `flock`: the kernel frees it with the process, however that ends, so a `kill -9` leaves
    nothing to clean up. The file stays; whoever holds the lock has written itself into it. With
    several processes only the first takes the lock.

    Args:
        workdir: made if it does not exist.
        command: the command line to show to a second launcher; this process's by default.

    Raises:
        UserError: another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(workdir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(_refusal(workdir, os.pread(descriptor, 1 << 16, 0))) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _this_process(command).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _this_process(command: Sequence[str] | None) -> str:
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(command if command is not None else sys.orig_argv),
            "started": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        }
    )


def _refusal(workdir: Path, content: bytes) -> str:
    try:
        holder = json.loads(content)
        who = (
            f"process {holder['pid']} on {holder['host']} (`{holder['command']}`, "
            f"started {holder['started']})"
        )
    except (ValueError, KeyError, TypeError):
        # The holder is between taking the lock and writing its name.
        who = "another process"
    return (
        f"{workdir} is in use by {who}, and two runs in one folder would spoil each other: "
        "wait for it, stop it, or choose another --workdir"
    )
