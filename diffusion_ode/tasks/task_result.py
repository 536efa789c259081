"""What a task has found and written, told at the end of a launch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class TaskResult:
    """Figures for the table of results, what was written, and what one may do next.

    Attributes:
      rows: (what, value) for the table.
      written: (what, where).
      next_flags: flags that turn this launch's command into the next one to try.
    """

    rows: Sequence[tuple[str, str]] = ()
    written: Sequence[tuple[str, Path]] = ()
    next_flags: Sequence[str] = field(default_factory=tuple)
