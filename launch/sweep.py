"""Many runs by one command: `python launch/sweep.py --exp=digits_vp --grid train.seed=0,1,2`.

Every point of the grid is an ordinary run in a workdir of its own. The same command again runs
only what is missing; see `--help` for the flags.
"""
# PYTHON_ARGCOMPLETE_OK: a shell that asks is answered, see docs/command_line.md.

# Before all other imports: a Ctrl-C may come in any of them.
import os
import sys

if not __package__:
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    # Experiments from outside the repository are found from where the user stands.
    sys.path.append(os.getcwd())  # noqa: PTH109

    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from diffusion_ode.command_line import whole_number
from diffusion_ode.errors import UserError
from diffusion_ode.exit_statuses import DONE, FAILED, INTERRUPTED, REFUSED
from diffusion_ode.home import path_argument, refuse_remote_workdir
from diffusion_ode.leaving import leave_with, status_of
from diffusion_ode.ranges import Within
from diffusion_ode.streams import LastingStream
from launch.parser import Parser

EPILOG = """\
examples:
  python launch/sweep.py --exp=digits_vp --jobs=2 --grid train.seed=0,1,2
         --grid train.optimizer.learning_rate.peak=1e-3,2e-3,4e-3
  python launch/sweep.py --exp=digits_vp,digits_sp --grid train.seed=0,1,2
  python launch/sweep.py --exp=cifar10_vp --grid train.seed=0,1,2
         --slurm time=24:00:00 --slurm partition=gpu --slurm gpus_per_node=1
  python launch/report.py runs/digits_vp_sweep
"""
_MOST_JOBS = 10_000  # as many as a grid may have points
_RUN = Path(__file__).with_name("run.py")


def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks; returns the exit status."""
    parser = _parser()
    parser.answer_shell()
    try:
        return _sweep(parser.parse_args(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"{error}: mend that, then run the same command again.", file=sys.stderr)
        return REFUSED


def _sweep(asked: argparse.Namespace) -> int:
    from diffusion_ode.reporting.quantities import counted
    from diffusion_ode.workdir.files import refuse_link
    from launch.grid import points, read_axis
    from launch.local_jobs import Job, check_at_once
    from launch.performing import check_writable
    from launch.progress_of_runs import is_done

    if asked.exp is None:
        raise UserError("No experiment is given: add --exp=NAME, or --exp=NAME,NAME.")
    experiments = tuple(asked.exp.split(","))
    if not asked.grid and len(experiments) == 1:
        alone = f"`python launch/run.py --exp={asked.exp}`"
        raise UserError(f"There is nothing to sweep: add --grid PATH=A,B, or run it by {alone}.")
    found = points(experiments, [read_axis(text) for text in asked.grid], asked.set)
    slurm = _pairs(asked.slurm)
    if asked.jobs is not None and not slurm:
        check_at_once(asked.jobs)
    folder = asked.workdir or Path("runs") / f"{'_'.join(_short(e) for e in experiments)}_sweep"
    refuse_remote_workdir(folder)
    for place in (folder, *(point.workdir(folder) for point in found)):
        check_writable(place)
    check_writable(folder / "logs")
    if (folder / "config.json").exists():
        raise UserError(f"{folder} is the workdir of a single run: choose another --workdir.")
    done = {point.name for point in found if is_done(point, point.workdir(folder))}
    missing = [point for point in found if point.name not in done]
    print(f"{counted(len(found), 'point')} in {folder}: {len(done)} done, {len(missing)} to do")
    if asked.show:
        for point in found:
            print(f"  {'done' if point.name in done else 'to do'}  {point.name}")
        return DONE
    shared = [f"--{flag}={value}" for flag in _PASSED_ON if (value := getattr(asked, flag))]
    shared += ["--continue_with_changes"] * asked.continue_with_changes
    jobs = [
        Job(
            point.name,
            [
                *(sys.executable, str(_RUN), f"--exp={point.experiment}"),
                *(f"--set={setting}" for setting in point.settings),
                f"--workdir={point.workdir(folder)}",
                *shared,
                *(["--num_processes=1"] if slurm else []),
            ],
            folder / "logs" / f"{point.name}.txt",
        )
        for point in missing
    ]
    for job in jobs:
        refuse_link(job.log)
    if slurm:
        return _on_slurm(jobs, folder, slurm, asked.jobs)
    return _here(jobs, folder, asked.jobs or 1)


def _here(jobs: Sequence, folder: Path, at_once: int) -> int:
    """Runs them on this machine, telling of each how it ended."""
    from diffusion_ode.reporting.progress import duration
    from launch.local_jobs import run_jobs
    from launch.progress_of_runs import reason

    outcomes: dict[str, int] = {}
    width = max((len(job.name) for job in jobs), default=0)

    def ended(job, status: int, seconds: float) -> None:
        outcomes[job.name] = status
        how = f"done in {duration(seconds)}" if status == DONE else reason(status, job.log)
        _say(f"  {job.name.ljust(width)}  {how}")

    complete = run_jobs(
        jobs,
        at_once,
        began=lambda job: _say(f"  {job.name.ljust(width)}  begins"),
        ended=ended,
        stopping=lambda running: _say(f"interrupted: {_are(running)} told to save and to end …"),
    )
    failed = [name for name, status in outcomes.items() if status not in (DONE, INTERRUPTED)]
    rest = len(jobs) - sum(status == DONE for status in outcomes.values())
    if not complete:
        print(f"Interrupted: {_are(rest)} to do; run the same command to go on.", file=sys.stderr)
        return INTERRUPTED
    if failed:
        said, them = ("line above says", "it") if len(failed) == 1 else ("lines above say", "them")
        words = f"{len(failed)} failed, as the {said}: mend {them}, and"
        print(f"{words} run the same command for what is missing.", file=sys.stderr)
        return FAILED
    if rest:
        words = "1 was stopped" if rest == 1 else f"{rest} were stopped"
        print(f"{words}: run the same command for what is missing.", file=sys.stderr)
        return INTERRUPTED
    print(f"all done\n\nnext, try\n  {_report_command(folder)}")
    return DONE


def _on_slurm(jobs: Sequence, folder: Path, asked: dict[str, str], at_once: int | None) -> int:
    """Queues those that are not queued yet, and does not wait for them."""
    from launch.slurm_jobs import queued, submit

    place = (folder / "slurm").absolute()
    there = queued(place)
    for job in jobs:
        if job.name in there:
            print(f"  {job.name}: queued as {there[job.name]}")
    new = [job for job in jobs if job.name not in there]
    if new:
        for name, number in submit(new, place, asked, at_once or len(new)).items():
            print(f"  {name}: job {number}")
    if jobs:
        print("run the same command again to see what is missing, and to queue what has failed")
    else:
        print(f"all done\n\nnext, try\n  {_report_command(folder)}")
    return DONE


_PASSED_ON = ("data_dir", "init_from")


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.lstrip("-").partition("=")
        if not (name and equals and value):
            raise UserError(f"--slurm {text!r} is not NAME=VALUE, e.g. partition=gpu.")
        pairs[name.replace("-", "_")] = value
    return pairs


def _short(experiment: str) -> str:
    return experiment.rpartition(":")[2]


def _report_command(folder: Path) -> str:
    report = str(_RUN.with_name("report.py"))
    return shlex.join(["python", min(os.path.relpath(report), report, key=len), str(folder)])


def _are(runs: int) -> str:
    return "1 run is" if runs == 1 else f"{runs:,} runs are"


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> Parser:
    parser = Parser(
        prog="python launch/sweep.py",
        usage="%(prog)s --exp=NAME[,NAME] --grid PATH=A,B [flags]",
        description="Runs every combination of some settings, each in a workdir of its own.",
        epilog=EPILOG,
    )
    parser.add_argument("--exp", metavar="NAME[,NAME]", help="experiments, as launch/run.py has")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="PATH=A,B,…",
        help="a config field and its values; repeatable",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="a config field of all points; repeatable",
    )
    parser.add_argument("--show", action="store_true", help="points and what is done; runs nothing")
    parser.add_argument(
        "--jobs",
        type=whole_number(Within(1, _MOST_JOBS)),
        metavar="N",
        help="at a time; default 1, under SLURM all",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="queue by sbatch with this flag, e.g. time=8:00:00; repeatable",
    )
    parser.add_argument(
        "--workdir",
        type=path_argument,
        metavar="DIR",
        help="of all workdirs; default runs/NAME_sweep",
    )
    parser.add_argument(
        "--data_dir", type=path_argument, metavar="DIR", help="as launch/run.py has"
    )
    parser.add_argument("--init_from", metavar="RUN", help="as launch/run.py has")
    parser.add_argument("--continue_with_changes", action="store_true", help="as launch/run.py has")
    return parser


if __name__ == "__main__":
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    leave_with(status_of(lambda: main(sys.argv[1:])))
