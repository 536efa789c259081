"""Running a task, and after training the tasks that follow it."""

import dataclasses
import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import fiddle as fdl

from diffusion_ode.checkpoints.errors import SaveFailed
from diffusion_ode.distributed import processes
from diffusion_ode.distributed.interruption import Interrupted
from diffusion_ode.errors import UserError, shortened
from diffusion_ode.exit_statuses import DONE, FAILED, INTERRUPTED
from diffusion_ode.home import refuse_impossible, refuse_remote, refuse_remote_workdir
from diffusion_ode.tasks import registry as tasks
from diffusion_ode.tasks.fault import piece_at_fault
from diffusion_ode.tasks.kept_apart import check_workdir
from diffusion_ode.tasks.run import ChecksFirst, ChecksReading, Run
from diffusion_ode.training.beginning import makes_another_run
from diffusion_ode.workdir.provenance import log_failure, recorded
from experiments.config.building import build
from experiments.config.conversion import to_document
from launch.flags import Request
from launch.summary import show_summary

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def prepare(name: str, config: fdl.Config, request: Request, arguments: Sequence[str]) -> Run:
    """What the task will be given; makes nothing yet.

    Raises:
      UserError: the config cannot be built, or the workdir not written to.
    """
    experiment = build(config)
    workdir = request.workdir or Path("runs") / name
    refuse_remote_workdir(workdir)
    remedy = "name a folder of this machine; what is prepared may come from there"
    refuse_remote(request.data_dir, "--data_dir=", remedy)
    check_writable(workdir)
    check_workdir(workdir)
    return Run(
        experiment=experiment,
        document=to_document(config),
        name=name,
        workdir=workdir,
        command=(_script(), *arguments),
        init_from=request.init_from,
        checkpoint=request.checkpoint,
        continue_with_changes=request.continue_with_changes,
        data_dir=request.data_dir,
        options=request.options,
    )


def perform(run: Run, task: str) -> int:
    """Runs the task, and after training what the experiment wants done then; the exit status.

    Raises:
      UserError: the user can mend it.
      Interrupted: asked to stop, everything is saved; it carries its exit status.
    """
    following = run.experiment.after_training if task == "train" else ()
    name = task
    try:
        for name in (task, *following):
            to_do = tasks.configured(tasks.find(name), run.experiment)
            if isinstance(to_do, ChecksFirst):
                to_do.check(run.experiment)
        processes.check_same("The request", json.dumps([task, *_request(run)]))
        for name in (task, *following) if following else ():
            to_do = tasks.configured(tasks.find(name), run.experiment)
            if isinstance(to_do, ChecksReading):
                to_do.check_reading(run)
    except UserError:
        raise
    except Exception as error:
        return _failed(run, name, error)
    logging.captureWarnings(True)  # a task's console keeps what is logged off the screen
    results = []
    for name in (task, *following):
        try:
            if name != "train":
                _refuse_other_model(run)
            to_do = tasks.configured(tasks.find(name), run.experiment)
            facts = {**_facts(run, name), "seed": getattr(to_do, "seed", None)}
            with recorded(run.workdir, **facts) as record:
                results.append(to_do.run(dataclasses.replace(run, recorder=record)))
        except UserError as refusal:
            if refusal.__cause__ is not None and run.log_path.exists():
                log_failure(run.log_path, refusal)
            raise
        except Interrupted as interruption:
            _say_interrupted(interruption)
            raise
        except Exception as error:
            return _failed(run, name, error)
        if name == "train":  # what follows a training takes what it has made
            run = dataclasses.replace(run, init_from=None)
    if processes.is_leader():
        show_summary(run, results)
    return DONE


def _failed(run: Run, task: str, error: Exception) -> int:
    """Says what has failed, and where; the exit status.

    Raises:
      Interrupted: it failed only because another process was interrupted.
    """
    elsewhere = processes.ended_elsewhere()
    log = _failure_log(run)
    unwritable = log_failure(log, error)
    full = isinstance(error, OSError) and error.errno in _FULL
    explained = full or isinstance(error, SaveFailed)  # whose own sentence says all
    where = f"; the traceback is in {log}"
    if unwritable:
        where = f"; the traceback follows, as {log} cannot be written ({unwritable})"
        where = "" if explained else where
    if elsewhere is None:
        reason = f"{type(error).__name__}: {shortened(error).lstrip()}".splitlines()[0]
        piece = piece_at_fault(error, run.experiment, task)
        at = f" at {piece}" if piece else ""
        who = f"{task} failed{at}" + (f" in process {processes.index()}" if _several() else "")
        remedy = "; free space or mend the disk, then run the same command again" if full else ""
        if _several():
            remedy += "; if another process has ended, run all of them again"
        print(f"{who}: {reason}{where}{remedy}.", file=sys.stderr)
        if unwritable and not explained:
            traceback.print_exception(error)
        return FAILED
    number, status = elsewhere
    if status == INTERRUPTED:
        interruption = Interrupted("interrupted, as another process was")
        _say_interrupted(interruption)
        raise interruption from error
    print(
        f"Process {number} of {processes.count()} has ended with status {status}, and process"
        f" {processes.index()} cannot go on without it: see what that one said, then run all of"
        " them again.",
        file=sys.stderr,
    )
    return FAILED


def _say_interrupted(interruption: Interrupted) -> None:
    if processes.is_leader():
        print(f"{interruption}: run the same command to go on.", file=sys.stderr)


def _several() -> bool:
    return processes.count() > 1


def _request(run: Run) -> list:
    """What all processes of a run must have been asked alike."""
    return [
        *(run.document, run.init_from, run.checkpoint),
        *(run.continue_with_changes, dict(run.options)),
    ]


def _facts(run: Run, task: str) -> dict[str, str]:
    """What `run.json` tells of a launch besides when, where and with which libraries."""
    return {
        "task": task,
        "experiment": run.name,
        "command": run.command_line,
        "data": run.experiment.data.name,
    }


def _failure_log(run: Run) -> Path:
    """The log; the leader's is not for others to write to, but theirs may say what it cannot."""
    if processes.is_leader():
        return run.log_path
    return run.log_path.with_suffix(f".{processes.index()}.txt")


def check_writable(workdir: Path) -> None:
    """Refuses a workdir that cannot be made or written to.

    Raises:
      UserError: with what is in the way.
    """
    refuse_impossible(workdir, "choose another --workdir")
    known = (workdir, *workdir.absolute().parents)
    nearest = next(folder for folder in known if folder.exists())
    if not nearest.is_dir():
        raise UserError(f"{nearest} is a file, not a folder: choose another --workdir.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"You may not write in {nearest}: choose another --workdir.")


def _script() -> str:
    """The launcher as one types it from where one stands."""
    script = Path(__file__).with_name("run.py")
    return min(os.path.relpath(script), str(script), key=len)


def _refuse_other_model(run: Run) -> None:
    """Another path or parameterisation fits the same checkpoint, and gives other figures."""
    for change in run.config_changes():
        if change.path.startswith("model.") and makes_another_run(change, run.experiment):
            raise UserError(
                f"{run.workdir} was trained with another model ({change.path} was {change.before}, "
                f"now {change.after}): give the same --set as then, or another --workdir."
            )
