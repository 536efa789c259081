"""The last thing on the screen: results, where they are, and what to type next."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from diffusion_ode.reporting.console import Screen
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.task_result import TaskResult


def show_summary(run: Run, results: Sequence[TaskResult]) -> None:
    """One table for all tasks of a launch, the paths of what they wrote, and the next command."""
    screen = Screen()
    table = Table(run.name, "", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for result in results:
        for what, value in result.rows:
            table.add_row(what, value)
    if table.rows:
        screen.print()
        screen.print(table)
    paths = [entry for result in results for entry in result.written]
    if paths:
        width = max(len(what) for what, _ in paths)
        lines = ["", "written", *(f"  {what.ljust(width)}  {path}" for what, path in paths)]
        screen.print("\n".join(lines), soft_wrap=True)
    if results and results[-1].next_flags:
        next_command = run.next_command(*results[-1].next_flags)
        screen.print(f"\nnext, try\n  {next_command}", soft_wrap=True)
