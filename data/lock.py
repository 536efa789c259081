"""One process at a time prepares a data set; the others wait for it."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from data.report import Report
from diffusion_ode.errors import UserError

LONGEST_WAIT = 3600.0  # seconds: the largest published set is prepared in a third of it
_BETWEEN_LOOKS = 0.5


@contextlib.contextmanager
def waiting_lock(data_dir: Path, name: str, report: Report) -> Iterator[None]:
    """Hold what is prepared under `name`, after waiting for another process that does.

    The kernel frees it with the process, however that ends.

    Raises:
        UserError: the other one still holds it after `LONGEST_WAIT`.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    other = f"another process that prepares {name} in {data_dir}"
    with (data_dir / f".{name}.lock").open("a") as file:
        began = time.monotonic()
        said = False
        while not _taken(file):
            if not said:
                report(f"waiting, up to {LONGEST_WAIT / 60:.0f} minutes, for {other} …")
                said = True
            if time.monotonic() - began > LONGEST_WAIT:
                raise UserError(
                    f"Waited {LONGEST_WAIT / 60:.0f} minutes for {other}: see what it does and try"
                    " again, or choose another folder with --data_dir."
                )
            time.sleep(_BETWEEN_LOOKS)
        yield


def _taken(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
