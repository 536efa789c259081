"""Weights & Biases, by the library `wandb`."""

import os
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.metric_writers import Setting
from diffusion_ode.reporting.tracked_run import TrackedRun, library

# wandb's own process writes every quarter of a minute, and what is younger is lost by a kill.
_SAFE_AFTER = 60.0  # seconds


@dataclass
class WandbWriter:
    """Sends curves, pictures, histograms and settings to Weights & Biases.

    A workdir is one run there, which its `wandb.json` names. Offline the records lie in `wandb/`,
    for `wandb sync`.

    Args:
      project: in which the run appears.
      name: of the run; None: the workdir's.
      entity: the user or team; None: the account's own.
      mode: "offline" needs no account and no network; None: what WANDB_MODE says, else online.
    """

    project: str = "diffusion-ode"
    name: str | None = None
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    _workdir: Path = field(init=False, repr=False, compare=False)
    _known: TrackedRun = field(init=False, repr=False, compare=False)
    _wandb: Any = field(default=None, init=False, repr=False, compare=False)
    _run: Any = field(default=None, init=False, repr=False, compare=False)
    _young: deque = field(default_factory=deque, init=False, repr=False, compare=False)

    __post_init__ = check_fields

    def open(self, workdir: Path) -> None:
        """Raises UserError if wandb is not installed, or it is online and nobody is logged in."""
        self._wandb = library("wandb", "wandb")
        self._workdir = workdir.absolute()
        self._known = TrackedRun(workdir / "wandb.json")
        if (self.mode or os.environ.get("WANDB_MODE", "online")) == "online":
            self._asked(self._wandb.login)

    def resume_at(self, step: int | None) -> None:
        self.close()
        self._known.resume_at(step)

    def write_config(self, step: int, text: str, settings: Mapping[str, Setting]) -> None:
        del step, text  # the run has the settings alone
        self._begun().config.update(dict(settings), allow_val_change=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._send(step, "scalars", scalars)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        self._send(step, name, {name: self._wandb.Image(image)})

    def write_histogram(self, step: int, name: str, edges: np.ndarray, heights: np.ndarray) -> None:
        drawn = self._wandb.Histogram(np_histogram=(heights.tolist(), edges.tolist()))
        self._send(step, name, {name: drawn})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
            self._remember(older_than=0.0)

    def _send(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        if self._known.is_new(step, kind):
            self._begun().log(dict(values), step=step)
            self._young.append((time.monotonic(), step, kind))
        self._remember(older_than=_SAFE_AFTER)

    def _remember(self, older_than: float) -> None:
        while self._young and time.monotonic() - self._young[0][0] >= older_than:
            _, step, kind = self._young.popleft()
            self._known.sent(step, kind)

    def _begun(self) -> Any:
        if self._run is None:
            self._run = self._asked(
                self._wandb.init,
                project=self.project,
                name=self.name or self._workdir.name,
                entity=self.entity,
                mode=self.mode,
                dir=self._workdir,
                id=self._known.begin(lambda: secrets.token_hex(4)),
                resume="allow",
                # The screen is the launcher's, and log.txt has what was on it.
                settings=self._wandb.Settings(console="off", silent=self.mode == "offline"),
            )
        return self._run

    def _asked(self, what: Any, **arguments: Any) -> Any:
        try:
            return what(**arguments)
        except self._wandb.Error as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"Weights & Biases: {reason.rstrip('.')}; or write offline by"
                " --set 'train.writers=(jsonl_writer(), wandb_writer(mode=\"offline\"))'."
            ) from None
