"""Showing text without running anything: how wide, and what if nobody can read it."""

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
