"""MLflow, by the library `mlflow-skinny` or `mlflow`."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.metric_writers import WALL_TIME, Setting
from diffusion_ode.reporting.tracked_run import TrackedRun, library

# MLflow takes no more at a time, and no longer ones.
_MAX_PARAMS = 100
_MAX_PARAM_CHARACTERS = 6000
_REMEMBERED = "mlflow.json"


@dataclass
class MlflowWriter:
    """Sends curves, pictures and settings to MLflow.

    A workdir is one run there, which its `mlflow.json` names.

    Args:
      tracking_uri: of a server or a database; None: `mlruns` in the workdir, which
        `MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri WORKDIR/mlruns` shows.
      experiment: among whose runs it appears.
      name: of the run; None: the workdir's.
    """

    tracking_uri: str | None = None
    experiment: str = "diffusion-ode"
    name: str | None = None
    _workdir: Path = field(init=False, repr=False, compare=False)
    _known: TrackedRun = field(init=False, repr=False, compare=False)
    _mlflow: Any = field(default=None, init=False, repr=False, compare=False)
    _client: Any = field(default=None, init=False, repr=False, compare=False)

    __post_init__ = check_fields

    def open(self, workdir: Path) -> None:
        """Raises UserError if mlflow is not installed."""
        self._mlflow = library("mlflow", "mlflow-skinny")
        self._workdir = workdir.absolute()
        self._known = TrackedRun(workdir / _REMEMBERED)

    def resume_at(self, step: int | None) -> None:
        self.close()
        self._known.resume_at(step)

    def write_config(self, step: int, text: str, settings: Mapping[str, Setting]) -> None:
        del step
        run = self._begun()
        known = self._client.get_run(run).data.params  # which MLflow lets nobody change
        new = [
            self._mlflow.entities.Param(name, str(value)[:_MAX_PARAM_CHARACTERS])
            for name, value in settings.items()
            if name not in known
        ]
        for first in range(0, len(new), _MAX_PARAMS):
            self._client.log_batch(run, params=new[first : first + _MAX_PARAMS])
        self._client.log_text(run, text, "config.json")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        if not self._known.is_new(step, "scalars"):
            return
        milliseconds = int(1000 * scalars.get(WALL_TIME, time.time()))
        metrics = [
            self._mlflow.entities.Metric(_name(name), value, milliseconds, step)
            for name, value in scalars.items()
            if name != WALL_TIME
        ]
        run = self._begun()
        self._client.log_batch(run, metrics=metrics)
        self._known.sent(step, "scalars")

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        if self._known.is_new(step, name):
            run = self._begun()
            self._client.log_image(run, image, key=name, step=step)
            self._known.sent(step, name)

    def close(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._known.id)
            self._client = None

    def _begun(self) -> str:
        """The run's id; from now on it is known to be running."""
        if self._client is None or self._known.id is None:
            try:
                self._client = self._connected()
                run = self._known.begin(lambda: self._created(self._client))
                self._client.update_run(run, status="RUNNING")
            except self._mlflow.exceptions.MlflowException as error:
                self._client = None
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise UserError(
                    f"MLflow: {reason.rstrip('.')}; check mlflow_writer(tracking_uri=…), or remove"
                    f" {self._workdir / _REMEMBERED} to begin another run there."
                ) from None
        return str(self._known.id)

    def _connected(self) -> Any:
        uri = self.tracking_uri
        if uri is None:
            # Folders are what MLflow maintains and no longer recommends; they need no database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = (self._workdir / "mlruns").as_uri()
        return self._mlflow.MlflowClient(tracking_uri=uri)

    def _created(self, client: Any) -> str:
        known = client.get_experiment_by_name(self.experiment)
        where = client.create_experiment(self.experiment) if known is None else known.experiment_id
        return client.create_run(where, run_name=self.name or self._workdir.name).info.run_id


def _name(name: str) -> str:
    """A metric's name as MLflow takes it, which makes folders of names and files of their ends.

    `train/gradient_norm` and `train/gradient_norm/up.block` would be both.
    """
    first, slash, rest = name.partition("/")
    return re.sub(r"[^\w\-. /]", "_", f"{first}{slash}{rest.replace('/', '.')}")
