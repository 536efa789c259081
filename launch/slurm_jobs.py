"""Launches as one job array under SLURM, by submitit."""

import inspect
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusion_ode.errors import UserError
from diffusion_ode.exit_statuses import DONE, INTERRUPTED
from diffusion_ode.foreign import refused
from diffusion_ode.workdir.result_files import read_json, write_json
from launch.local_jobs import Job

_POLL = 1.0  # seconds
_PATIENCE = 30  # seconds: for SLURM's answer
_NUMBERED = "jobs.json"
_MOST_REQUEUES = 1000  # a training may take longer than any time limit
_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?")
# What a sweep says itself, or submitit.
_SAID_ALREADY = ("additional_parameters", "array", "command", "folder", "map_count")


class SlurmLaunch:
    """What a job of the array does: the launch, as a process that saves when the job must leave.

    When the time is up or the job is preempted, submitit asks for `checkpoint` and queues the job
    again, which then goes on where the run was saved.
    """

    def __init__(self, command: list[str], log: str):
        self._command, self._log = command, log

    def __call__(self) -> int:
        Path(self._log).parent.mkdir(parents=True, exist_ok=True)
        with Path(self._log).open("a") as log:
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_ignore_notices,
            )
        while process.poll() is None:  # not `wait`, which `checkpoint` would wait for
            time.sleep(_POLL)
        if process.returncode not in (DONE, INTERRUPTED):
            raise RuntimeError(f"status {process.returncode}; see {self._log}")
        return process.returncode

    def __getstate__(self):
        return {"_command": self._command, "_log": self._log}

    def checkpoint(self):
        """Ends the process once it has saved; the same again for the queue."""
        import submitit

        os.kill(self._process.pid, signal.SIGTERM)
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(self)


def _ignore_notices() -> None:
    """SLURM sends submitit's signal to every process of a job; it is not for the run."""
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):
        signal.signal(number, signal.SIG_IGN)


def queued(folder: Path) -> dict[str, str]:
    """The jobs of this sweep that SLURM still has, by name."""
    known = _numbers(folder / _NUMBERED)
    there = _of_this_user() if known else set()
    return {name: number for name, number in known.items() if number in there}


def submit(
    jobs: Sequence[Job], folder: Path, asked: Mapping[str, str], at_once: int
) -> dict[str, str]:
    """Queues the jobs as one array; their numbers by name.

    Args:
      jobs: to be run.
      folder: for submitit's files.
      asked: of SLURM, by the names of sbatch's flags without dashes.
      at_once: how many may run at a time.

    Raises:
      UserError: submitit or SLURM is missing, or SLURM refuses.
    """
    try:
        import cloudpickle
        import submitit
        from submitit.core.utils import FailedJobError
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError:
        raise UserError(
            "--slurm needs submitit, which is not installed: pip install submitit."
        ) from None
    limits = {"time": _minutes(asked.get("time"))}
    if "array_parallelism" in asked:
        raise UserError("--slurm array_parallelism is what --jobs=N says: give that.")
    for name, value in asked.items():
        if name in _SAID_ALREADY:
            raise UserError(f"--slurm {name} is for a sweep to say: leave it out.")
        if not (name.isidentifier() and value.isprintable()):  # it becomes a line of a script
            raise UserError(f"--slurm {name}={value!r} is no option of sbatch's: mend it.")
    # A job finds this file nowhere: what it does is written into its own.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=_MOST_REQUEUES)
    except RuntimeError:
        raise UserError(
            "There is no SLURM here (srun is not found): submit from a login node, or leave --slurm"
            " out to run on this machine."
        ) from None
    taken = inspect.signature(_make_sbatch_string).parameters
    known = {name: value for name, value in asked.items() if name in taken}
    with refused(_refusal):
        executor.update_parameters(
            **{"job_name": "diffusion_ode", **known, **limits},  # pyright: ignore[reportArgumentType]
            array_parallelism=at_once,
            additional_parameters={name: v for name, v in asked.items() if name not in taken},
        )
        try:
            with executor.batch():
                submitted = [
                    executor.submit(SlurmLaunch(list(j.command), str(j.log))) for j in jobs
                ]
        except (FailedJobError, OSError) as failure:
            lines = str(failure).strip().splitlines()
            raise UserError(_refusal(lines[-1] if lines else type(failure).__name__)) from failure
    numbers = {job.name: each.job_id for job, each in zip(jobs, submitted, strict=True)}
    path = folder / _NUMBERED
    write_json(path, _numbers(path) | numbers)
    return numbers


def _refusal(why: str) -> str:
    return f"SLURM refuses the jobs ({why}): mend the --slurm flags, or see what sbatch says."


def _numbers(path: Path) -> dict[str, str]:
    """Of the jobs that were queued so far, by name."""
    if not path.exists():
        return {}
    with refused(lambda why: f"{path} is not as a sweep wrote it ({why}): remove it."):
        return {name: str(number) for name, number in read_json(path).items()}


def _minutes(text: str | None) -> int:
    """A time as sbatch takes it: 90, 90:00, 1:30:00 or 1-12:00:00."""
    match = _TIME.fullmatch(text or "")
    if match is None or not match[0].strip("0:-"):  # to sbatch 0 is no limit, to submitit a minute
        raise UserError(
            "--slurm time=… says how long a job may take, such as time=8:00:00 or time=90 for"
            " minutes: give that."
        )
    days, *rest = match.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is None and len(numbers) < 3:  # minutes, and perhaps seconds
        numbers = [0, *numbers]
    hours, minutes, seconds = (*numbers, 0, 0)[:3]
    return max(1, (24 * int(days or 0) + hours) * 60 + minutes + math.ceil(seconds / 60))


def _of_this_user() -> set[str]:
    """The numbers of all jobs that SLURM has of this user, waiting and running."""
    try:
        answer = subprocess.run(
            ["squeue", "--me", "--array", "--noheader", "--format=%i"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as failure:
        raise UserError(
            f"SLURM does not answer which jobs of this sweep are still queued ({failure}): try"
            " again where squeue works."
        ) from None
    return set(answer.stdout.split())
