"""The command line: few flags, everything else is a config field."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diffusion_ode.command_line import whole_number
from diffusion_ode.distributed.joining import WAIT_FOR_PEERS, Peers
from diffusion_ode.errors import UserError
from diffusion_ode.exit_statuses import ABORTED, DONE, FAILED, INTERRUPTED, REFUSED
from diffusion_ode.home import path_argument
from diffusion_ode.ranges import Within, is_count
from diffusion_ode.tasks import registry as tasks
from launch.parser import Parser

_MOST_PROCESSES = 1 << 16  # of which the first one keeps lists
_LONGEST_WAIT = 7 * 24 * 3600  # seconds; timers have an end

EPILOG = f"""\
examples:
  python launch/run.py --exp=digits_vp                      train; again: resume
  python launch/run.py --exp=digits_vp --describe
  python launch/run.py --exp=digits_vp --set train.num_steps=500
                       --set 'model.path=straight_path()' --workdir=runs/short
  python launch/run.py --exp=digits_vp --task=sample --checkpoint=best

exit status: {DONE} done, {FAILED} failed, {REFUSED} refused, {INTERRUPTED} interrupted \
(saved), {ABORTED} aborted
"""


@dataclass(frozen=True)
class Request:
    """What the user asked for; see the help of each flag."""

    experiment: str | None = None
    task: str = "train"
    describe: str | None = None
    device: str | None = None
    target: str | None = None
    listing: str | None = None
    overrides: tuple[str, ...] = ()
    workdir: Path | None = None
    init_from: str | None = None
    checkpoint: str | None = None
    continue_with_changes: bool = False
    data_dir: Path | None = None
    peers: Peers | None = None
    wait_for_peers: int = WAIT_FOR_PEERS
    options: dict[str, str] = field(default_factory=dict)


def read(arguments: Sequence[str]) -> Request:
    """The request that the arguments (without the program's name) make.

    Raises:
      UserError: a flag is unknown, lacks its value, or belongs to another task.
      SystemExit: after `--help`, with status 0.
    """
    parser = _parser()
    parser.answer_shell()
    given = parser.parse_args(arguments)
    if given.exp is None and given.list is None:
        raise UserError("No experiment is given: add --exp=NAME; --list shows the names.")
    for flag in ("device", "target"):
        if getattr(given, flag) is not None and given.describe is None:
            raise UserError(f"--{flag} belongs to --describe: add that, or leave it out.")
    if given.describe not in (None, "", "full"):
        raise UserError(
            f"--describe={given.describe} is neither --describe nor --describe=full: give one."
        )
    if given.device is not None and given.target is not None:
        raise UserError(
            "--device estimates the costs by formula, --target asks the compiler for them: give"
            " one of the two."
        )
    if given.checkpoint is not None and not (
        given.checkpoint in ("best", "best_on_test") or is_count(given.checkpoint)
    ):
        raise UserError(f"--checkpoint={given.checkpoint} is neither a step nor best: give one.")
    options = {
        flag: value
        for entry in tasks.TASKS
        for flag in entry.flags
        if (value := getattr(given, flag)) is not None
    }
    task = tasks.find(given.task)
    for flag in options:
        if flag not in task.flags:
            owners = [entry.name for entry in tasks.TASKS if flag in entry.flags]
            raise UserError(
                f"--{flag} belongs to --task={owners[0]}: leave it out, or choose that task."
            )
    return Request(
        experiment=given.exp,
        task=given.task,
        describe=given.describe,
        device=given.device,
        target=given.target,
        listing=given.list,
        overrides=tuple(given.set),
        workdir=given.workdir,
        init_from=given.init_from,
        checkpoint=given.checkpoint,
        continue_with_changes=given.continue_with_changes,
        data_dir=given.data_dir,
        peers=_peers(given),
        wait_for_peers=given.wait_for_peers,
        options=options,
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python launch/run.py",
        usage="%(prog)s --exp=NAME [flags] | --list [PATTERN]",
        description="Train a diffusion ODE, judge it by its likelihood, draw samples from it.",
        epilog=EPILOG,
        add_help=False,  # it would be a group of its own, for which a screen has no room
        word=_word,
    )
    what = parser.add_argument_group("what to do")
    what.add_argument("--exp", metavar="NAME", help="registered experiment, or module:function")
    first, *others = (entry.name for entry in tasks.TASKS)
    names = ", ".join([f"{first} (default)", *others, "module:Class"])
    what.add_argument("--task", metavar="TASK", default=first, help=names)
    what.add_argument(
        "--describe",
        nargs="?",
        const="",
        metavar="full",
        help="differences and costs; =full: all settings; runs nothing",
    )
    what.add_argument("--device", metavar="CHIP", help="--describe: costs on it, e.g. h100:8")
    what.add_argument("--target", metavar="SLICE", help="--describe: compile for TPUs, v5e:2x4")
    what.add_argument(
        "--list", nargs="?", const="", metavar="PATTERN", help="experiments (matching) and tasks"
    )
    what.add_argument("-h", "--help", action="help", help="show this")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="set a config field; repeatable; --describe=full shows them",
    )
    how.add_argument(
        "--init_from", metavar="RUN", help="begin with WORKDIR[@STEP] or reference:PATH"
    )
    how.add_argument(
        "--checkpoint", metavar="STEP", help="of all but train: a step or best; default newest"
    )
    how.add_argument(
        "--continue_with_changes", action="store_true", help="train: resume otherwise optimised"
    )
    for entry in tasks.TASKS:
        for flag, text in entry.flags.items():
            how.add_argument(f"--{flag}", metavar="VALUE", help=f"{entry.name}: {text}")
    where = parser.add_argument_group("where")
    where.add_argument("--workdir", type=path_argument, metavar="DIR", help="default runs/NAME")
    where.add_argument(
        "--data_dir",
        type=path_argument,
        metavar="DIR",
        help="default $DIFFUSION_ODE_DATA or ~/.cache/diffusion_ode",
    )
    several = parser.add_argument_group("several processes (found automatically on a cluster)")
    several.add_argument(
        "--coordinator", metavar="ADDR", help="HOST:PORT of process 0, a free port there"
    )
    several.add_argument(
        "--num_processes",
        type=whole_number(Within(1, _MOST_PROCESSES)),
        metavar="N",
        help="how many; 1 runs alone, even on a cluster",
    )
    several.add_argument(
        "--process_id",
        type=whole_number(Within(0, _MOST_PROCESSES - 1)),
        metavar="I",
        help="the number of this one, 0 to N - 1",
    )
    several.add_argument(
        "--wait_for_peers",
        type=whole_number(Within(1, _LONGEST_WAIT)),
        default=WAIT_FOR_PEERS,
        metavar="S",
        help=f"seconds to wait for the others; default {WAIT_FOR_PEERS}",
    )
    return parser


def _peers(given: argparse.Namespace) -> Peers | None:
    """What the flags say of this process and its peers; None if nothing."""
    flags = ("coordinator", "num_processes", "process_id")
    present = [name for name in flags if getattr(given, name) is not None]
    if not present:
        return None
    count, index, coordinator = given.num_processes, given.process_id, given.coordinator
    if count is not None:
        if index is not None and index >= count:
            raise UserError(
                f"--process_id={index} is not one of --num_processes={count} processes: number them"
                " from 0."
            )
        if count == 1:
            return Peers(1, 0)
    if count is None or index is None or coordinator is None:
        raise UserError(
            f"--{present[0]} is given without all of --coordinator=HOST:PORT, --num_processes=N and"
            " --process_id=I: give the three together, or none to ask the cluster."
        )
    host, colon, port = coordinator.rpartition(":")
    if not (_is_host(host) and colon and is_count(port) and 0 < int(port) < 1 << 16):
        raise UserError(
            f"--coordinator={coordinator} is not HOST:PORT: give the host of process 0 and a free"
            " port on it, such as node1:1234."
        )
    return Peers(count, index, coordinator)


def _is_host(text: str) -> bool:
    """Whether it can be looked up, which of a name too long is a UnicodeError."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def _word(word: str) -> str:
    """What a word without a flag may have been meant as."""
    if word in (entry.name for entry in tasks.TASKS):
        return f"a task is chosen by --task={word}."
    return f"an experiment is named by --exp={word}; --help shows the flags."
