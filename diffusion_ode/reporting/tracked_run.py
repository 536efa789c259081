"""What a workdir remembers of its run at a tracking service, which cannot forget a point."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_ode.errors import UserError
from diffusion_ode.foreign import read_regular
from diffusion_ode.workdir.files import keep_aside
from diffusion_ode.workdir.result_files import write_json

MAX_BYTES = 1 << 20  # a number for each kind of value


class TrackedRun:
    """The run's id and the newest step that was sent, kept in a file.

    A resumed training takes the steps after its checkpoint again, bit for bit. What was sent of
    them stands at the service already and is not sent again: no curve has a point twice.

    Args:
      path: of the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self.id: str | None = None
        self._sent: dict[str, int] = {}
        self._before: dict[str, int] = {}
        try:
            known = json.loads(read_regular(path, MAX_BYTES))
            sent = {kind: int(step) for kind, step in known["sent"].items()}
            self.id, self._sent = str(known["id"]), sent
        except FileNotFoundError:
            pass
        except Exception:  # anything may be in it
            keep_aside(path, "of the run at the service")

    def resume_at(self, step: int | None) -> None:
        """Goes on with the same run, or forgets it for another one if None."""
        if step is None:
            self.id, self._sent = None, {}
            self._path.unlink(missing_ok=True)
        self._before = dict(self._sent)

    def begin(self, new_id: Callable[[], str]) -> str:
        """The run's id, of a new one if there is none."""
        if self.id is None:
            self.id = new_id()
            self._write()
        return self.id

    def is_new(self, step: int, kind: str) -> bool:
        """Whether values of a kind at this step were not sent before this launch."""
        return step > self._before.get(kind, -1)

    def sent(self, step: int, kind: str) -> None:
        """Remembers that they were sent."""
        self._sent[kind] = max(step, self._sent.get(kind, -1))
        self._write()

    def _write(self) -> None:
        write_json(self._path, {"id": self.id, "sent": self._sent})


def library(name: str, package: str) -> Any:
    """A library that is imported only where a writer needs it.

    Args:
      name: of the module.
      package: what pip calls it.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise UserError(
            f"train.writers needs {package}, which is not installed ({missing}): pip install"
            f" {package}, or leave that writer out."
        ) from None
