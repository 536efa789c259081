"""The screen of a task that a signal may end at any moment, because all it has found is kept."""

import contextlib
from collections.abc import Iterator

from diffusion_ode.distributed import processes
from diffusion_ode.distributed.interruption import Interruption
from diffusion_ode.reporting.console import Console
from diffusion_ode.tasks.run import Run


@contextlib.contextmanager
def interruptible(run: Run) -> Iterator[Console]:
    """A console on which only the leader speaks; SIGTERM and SIGINT end the process at once."""
    with (
        Console(silent=not processes.is_leader()) as console,
        Interruption(console.print, run.recorder.end) as interruption,
        interruption.immediately(lambda: None),
    ):
        yield console
