"""How far a run has come, as its workdir tells without anything being run."""

import os
import signal
from pathlib import Path

from diffusion_ode.configs import documents
from diffusion_ode.errors import on_one_line
from diffusion_ode.exit_statuses import INTERRUPTED
from diffusion_ode.foreign import open_regular
from diffusion_ode.workdir.provenance import launches_of
from launch.grid import Point

_LAST_WORDS = 1 << 16  # bytes


def is_done(point: Point, workdir: Path) -> bool:
    """Whether all tasks have ended well, the last training under this very config."""
    try:
        if documents.difference(documents.read(workdir / "config.json"), point.document):
            return False
        # By their order: their times are of a clock that may have been set back meanwhile.
        launches = enumerate(launches_of(workdir))
        last = {launch["task"]: (place, launch["outcome"]) for place, launch in launches}
        ended = [last[task] for task in point.tasks]
        trained, _ = ended[0]
        return all(outcome == "done" and place >= trained for place, outcome in ended)
    except Exception:  # missing or damaged, by which nothing is told to be done
        return False


def reason(status: int, log: Path) -> str:
    """Why a launch has ended with a status: its last words, which are one sentence."""
    if status == INTERRUPTED:
        return "interrupted"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; what it said is in {log}"
    try:
        with open_regular(log) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_WORDS))
            text = str(file.read(_LAST_WORDS), "utf-8", "replace")
        lines = [line.strip() for line in text.splitlines()]
    except OSError:
        lines = []
    said = next((line for line in reversed(lines) if line), f"nothing said in {log}")
    return f"status {status}: {on_one_line(said)}"
