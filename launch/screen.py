"""What a launch shows without running anything, and what it keeps off the screen."""

import sys
from collections.abc import Iterable

from diffusion_ode.exit_statuses import DONE, FAILED

SCREEN_WIDTH = 80
"""Columns that text is wrapped to; longer lines are hard to read even where there is room."""


def show(lines: Iterable[str]) -> int:
    """Prints lines as they come; the exit status."""
    for line in lines:
        print(line, flush=True)
        lost = getattr(sys.stdout, "failure", None)
        if isinstance(lost, BrokenPipeError):  # `--list | head` has read enough
            return DONE
        if lost is not None:
            reason = getattr(lost, "strerror", lost)
            print(f"Standard output cannot be written to ({reason}).", file=sys.stderr)
            return FAILED
    return DONE


def quiet_about_closed_loops(unraisable: "sys.UnraisableHookArgs") -> None:
    """An unraisablehook: TensorStore's threads report a file's failure to asyncio loops that have
    ended with the first failure, which is the one that is told, and show a traceback for each.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
