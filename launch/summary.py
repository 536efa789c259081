"""The last thing on the screen: results, where they are, and what to type next."""

import textwrap
from collections.abc import Iterator, Sequence

from diffusion_ode.reporting.result_table import GAP, SCREEN_WIDTH, result_table
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.task_result import TaskResult


def summary(run: Run, results: Sequence[TaskResult]) -> str:
    """One table for all tasks of a launch, the paths of what they wrote, and the next command."""
    rows = [row for result in results for row in result.rows]
    room = SCREEN_WIDTH - max((len(what) for what, _ in rows), default=0) - len(GAP)
    rows = [row for what, value in rows for row in _wrapped(what, value, room)]
    written = [entry for result in results for entry in result.written]
    lines = ["", result_table((run.name, ""), rows)] if rows else []
    if written:
        width = max(len(what) for what, _ in written)
        lines += ["", "written", *(f"  {what.ljust(width)}  {path}" for what, path in written)]
    if results and results[-1].next_flags:
        lines += ["", "next, try", f"  {run.next_command(*results[-1].next_flags)}"]
    return "\n".join(lines)


def _wrapped(what: str, value: str, room: int) -> Iterator[tuple[str, str]]:
    """A value that is longer than the screen goes on below: paths are never cut."""
    for number, line in enumerate(textwrap.wrap(value, room, break_on_hyphens=False) or [""]):
        yield ("" if number else what), line
