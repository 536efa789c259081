"""One process at a time prepares a data set; the others wait for it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from data.report import Report
from diffusion_ode.errors import UserError
from diffusion_ode.workdir.files import Held, held

LONGEST_WAIT = 3600.0  # seconds: the largest published set is prepared in a third of it
_BETWEEN_LOOKS = 0.5


@contextlib.contextmanager
def waiting_lock(data_dir: Path, name: str, report: Report) -> Iterator[None]:
    """Hold what is prepared under `name`, after waiting for another process that does.

    It is free again when the process ends, however it does.

    Raises:
        UserError: the other one still holds it after `LONGEST_WAIT`.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    other = f"another process that prepares {name} in {data_dir}"
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        said = False
        while True:
            try:
                stack.enter_context(held(data_dir / f".{name}.lock", wait=False))
                break
            except Held:
                pass
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
