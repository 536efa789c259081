"""From workdirs to a table: `python launch/report.py runs/digits_vp runs/digits_sp`.

Runs of one config under different seeds are one row. Nothing is computed that an evaluation has
not found; see `--help` for the flags.
"""
# PYTHON_ARGCOMPLETE_OK: a shell that asks is answered, see docs/command_line.md.

# Before all other imports: a Ctrl-C may come in any of them.
import os
import sys

if not __package__:
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120

    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffusion_ode.errors import UserError, printable
from diffusion_ode.exit_statuses import REFUSED
from diffusion_ode.foreign import refused
from diffusion_ode.home import expanded, path_argument
from diffusion_ode.leaving import leave_in_order, leave_with, status_of
from diffusion_ode.streams import LastingStream
from diffusion_ode.suggestions import suggestion
from launch.parser import Parser
from launch.screen import show

EPILOG = """\
examples:
  python launch/report.py runs/digits_vp runs/digits_sp
  python launch/report.py runs/sweep --baseline=runs/sweep/peak=0.001,seed=0
  python launch/report.py runs/sweep --format=latex --figure=a.pdf > table.tex
  python launch/report.py runs/* --apart --evaluation='*'
"""


_LEAVE_OUT = "find whose metrics.jsonl it is by naming fewer, and leave that run out"


def main(arguments: Sequence[str]) -> int:
    """Shows the table that the command line asks for; returns the exit status."""
    parser = _parser()
    parser.answer_shell()
    try:
        return show(_report(parser.parse_args(arguments)))
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED


def _report(asked: argparse.Namespace) -> list[str]:
    """The lines to show, once all is known to be well."""
    import numpy as np

    from diffusion_ode.evaluation.replicates import apart, ranked, ranking_figure, replicates
    from diffusion_ode.evaluation.report import COLUMNS, table
    from diffusion_ode.evaluation.reported_run import read_runs, workdirs
    from diffusion_ode.reporting.curves import Drawn, draw
    from diffusion_ode.reporting.quantities import counted
    from diffusion_ode.reporting.tables import FORMATS

    leave_in_order()  # a figure that is not whole is taken away
    columns = None if asked.columns is None else asked.columns.split(",")
    for name in columns or ():
        if name not in COLUMNS:
            raise UserError(f"There is no column {name!r}; {suggestion(name, COLUMNS, 20)}")
    if asked.format not in FORMATS:
        raise UserError(f"There is no format {asked.format!r}; {suggestion(asked.format, FORMATS)}")
    if asked.curve is not None and asked.figure is None:
        raise UserError("--curve says what --figure=FILE shows: give that, too.")
    baseline = asked.baseline and expanded(asked.baseline)
    folders = workdirs([expanded(path) for path in asked.workdirs])
    if baseline is not None:
        folders = list(dict.fromkeys([*folders, *workdirs([baseline])]))
    with (
        refused(lambda why: _not_as_written(folders, why)),
        np.errstate(over="raise", divide="raise"),
    ):
        rows = replicates(read_runs(folders, asked.evaluation))
        groups = apart(rows) if asked.apart else [rows]
        tables = [table(group, baseline, columns) for group in groups]
        text = "\n".join(FORMATS[asked.format](each) for each in tables)
    if asked.figure is not None:
        by = ranking_figure(rows) if len(groups) == 1 else None
        shown = [
            Drawn(row.name, [run.workdir for run in row.runs], row.figure(by) if by else None)
            for row in ranked(rows, by)
        ]
        with refused(lambda why: f"--figure cannot show what was logged ({why}): {_LEAVE_OUT}."):
            metric = draw(expanded(asked.figure), shown, asked.curve)
        print(
            f"{printable(asked.figure)}: {metric} of {counted(len(folders), 'run')}",
            file=sys.stderr,
        )
    return text.removesuffix("\n").split("\n")


def _not_as_written(folders: Sequence[Path], why: str) -> str:
    if len(folders) == 1:
        return f"A file of {folders[0]} is not as it was written ({why}): evaluate it anew."
    remedy = "find which by naming fewer, and evaluate that one anew"
    return f"A file of these runs is not as it was written ({why}): {remedy}."


def _parser() -> Parser:
    parser = Parser(
        prog="python launch/report.py",
        usage="%(prog)s WORKDIR [WORKDIR …] [flags]",
        description="A table of runs: what differs, bits per dimension with their errors, costs.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "workdirs",
        nargs="+",
        type=path_argument,
        metavar="WORKDIR",
        help="of a run, or a folder of several",
    )
    parser.add_argument(
        "--format", default="terminal", help="terminal (default), markdown, latex or csv"
    )
    parser.add_argument(
        "--baseline",
        type=path_argument,
        metavar="WORKDIR",
        help="differences to it, paired by image",
    )
    parser.add_argument(
        "--evaluation", metavar="NAME", help="of which; may have *; default: what most have"
    )
    parser.add_argument(
        "--apart", action="store_true", help="a table for each set of images, no refusal"
    )
    parser.add_argument("--columns", metavar="A,B,…", help="run,settings,ode,… in that order")
    parser.add_argument(
        "--figure", type=path_argument, metavar="FILE", help="curves as .png or .pdf"
    )
    parser.add_argument(
        "--curve", metavar="METRIC", help="of metrics.jsonl; default validation/bpd or train/bpd"
    )
    return parser


if __name__ == "__main__":
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    leave_with(status_of(lambda: main(sys.argv[1:])))
