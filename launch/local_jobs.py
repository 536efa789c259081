"""Several launches on this machine, some at a time, which end in good order with this one."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_ode.errors import UserError, in_words
from diffusion_ode.foreign import NOT_REGULAR

_MOST_AT_ONCE = 256
_POLL = 0.1  # seconds
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A command, and where what it says goes."""

    name: str
    command: Sequence[str]
    log: Path


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    began: Callable[[Job], None],
    ended: Callable[[Job, int, float], None],
    stopping: Callable[[int], None],
) -> bool:
    """Runs the jobs in order; whether it came to the end of them.

    The first SIGINT, SIGTERM or SIGHUP is passed on as SIGTERM, so that every run saves and ends;
    no other begins. The second one kills them.

    Args:
      jobs: to be run.
      at_once: how many at a time.
      began, ended: are told of each, `ended` with its status and seconds.
      stopping: is told how many are still running when they are asked to end.
    """
    waiting, running = list(jobs), {}
    free = list(range(at_once))
    asked = 0

    def ask(*_: object) -> None:
        nonlocal asked
        asked += 1

    # What is ignored, as SIGHUP by nohup, stays so.
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    passed_on = 0
    try:
        while running or (waiting and not asked):
            while waiting and free and not asked:
                job, slot = waiting.pop(0), free.pop(0)
                running[_start(job, _devices(slot, at_once))] = (job, slot, time.monotonic())
                began(job)
            if asked > passed_on:
                passed_on += 1
                if passed_on == 1:
                    stopping(len(running))
                for process in running:
                    _send(process, signal.SIGTERM if passed_on == 1 else signal.SIGKILL)
            for process in [each for each in running if each.poll() is not None]:
                job, slot, start = running.pop(process)
                free.append(slot)
                ended(job, process.returncode, time.monotonic() - start)
            time.sleep(_POLL)
    finally:
        for process in running:
            _send(process, signal.SIGTERM)
        for number, handler in before.items():
            signal.signal(number, handler)
    return not asked


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def check_at_once(at_once: int) -> None:
    """Refuses more jobs at once than there are GPUs, if there are any: each takes one to itself.

    Raises:
      UserError: there are fewer, or they are more than any machine should have.
    """
    if at_once > _MOST_AT_ONCE:
        raise UserError(f"--jobs={at_once} is too many: give at most {_MOST_AT_ONCE}.")
    if at_once > len(gpus()) > 0:
        raise UserError(
            f"--jobs={at_once} is more than the GPUs, of which each job takes one: give at most"
            f" --jobs={len(gpus())}."
        )


def _devices(slot: int, at_once: int) -> Mapping[str, str]:
    """One of several jobs has a GPU to itself; a single one has all that there is."""
    found = gpus()
    return {"CUDA_VISIBLE_DEVICES": found[slot]} if found and at_once > 1 else {}


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen:
    """In a session of its own, which a Ctrl-C at the terminal does not reach.

    Raises:
      UserError: its log cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            if job.log.exists() and not job.log.is_file():  # a pipe would be waited for
                raise OSError(NOT_REGULAR, "It is no regular file")
            log = stack.enter_context(job.log.open("a"))
        except OSError as error:
            raise UserError(
                f"{job.name} cannot begin, as its log {job.log} cannot be written"
                f" ({in_words(error)}): mend that, then run the same command again; those that ran"
                " have been told to save and to end."
            ) from error
        return subprocess.Popen(
            job.command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _send(process: subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
