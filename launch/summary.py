"""The last thing on the screen: results, where they are, and what to type next."""

from collections.abc import Sequence

from diffusion_ode.reporting.result_table import result_table
from diffusion_ode.tasks.outcome import Outcome
from diffusion_ode.tasks.run import Run


def summary(run: Run, outcomes: Sequence[Outcome]) -> str:
    """One table for all tasks of a launch, the paths of what they wrote, and the next command."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    written = [entry for outcome in outcomes for entry in outcome.written]
    lines = ["", result_table((run.name, ""), rows)] if rows else []
    if written:
        width = max(len(what) for what, _ in written)
        lines += ["", "written", *(f"  {what.ljust(width)}  {path}" for what, path in written)]
    if outcomes and outcomes[-1].next_flags:
        lines += ["", "next, try", f"  {run.next_command(*outcomes[-1].next_flags)}"]
    return "\n".join(lines)
