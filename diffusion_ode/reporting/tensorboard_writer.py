"""TensorBoard's event files, by tensorboardX."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter

# Generated code, whose names no checker sees.
from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)

from diffusion_ode.reporting.metric_writers import WALL_TIME, Setting
from diffusion_ode.workdir.files import refuse_link

_NUMBERED = re.compile(r"events\.run(\d{1,9})\.")
# Beside the settings in the table of hyper-parameters.
_COMPARED_BY = ("validation/bpd", "train/bpd")


@dataclass
class TensorBoardWriter:
    """Writes curves, pictures and settings into a folder that `tensorboard --logdir` shows.

    It uses tensorboardX's synchronous writer and not its `SummaryWriter`, whose thread and queue
    lose what was logged last when a process leaves in a hurry.
    """

    _folder: Path = field(init=False, repr=False, compare=False)
    _events: EventsWriter | None = field(default=None, init=False, repr=False, compare=False)

    def open(self, workdir: Path) -> None:
        self._folder = workdir / "tensorboard"

    def replace(self, workdir: Path, name: str) -> None:
        """As `open`, for a run of its own in TensorBoard; what it had is removed.

        Raises:
          UserError: its folder is a link, through which another's would be removed.
        """
        self._folder = workdir / "tensorboard" / name
        for folder in (self._folder, *self._folder.parents):
            if folder == workdir:
                break
            refuse_link(folder)
        for file in self._folder.glob("events.*"):
            file.unlink()

    def resume_at(self, step: int | None) -> None:
        """Begin a file which says that all events after `step` in earlier files are void."""
        self.close()
        void_from = 0 if step is None else step + 1
        if any(self._folder.glob("events.*")):
            restart = SessionLog(status=SessionLog.START)
            self._write(Event(step=void_from, session_log=restart))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        wall_time = scalars.get(WALL_TIME)
        for name, value in scalars.items():
            if name != WALL_TIME:
                self._write(Event(step=step, summary=summary.scalar(name, value)), wall_time)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        picture = summary.image(name, image, dataformats="HWC")
        self._write(Event(step=step, summary=picture))

    def write_histogram(self, step: int, name: str, edges: np.ndarray, heights: np.ndarray) -> None:
        # TensorBoard draws a bin up to its limit and from the limit before; the sums are not shown.
        bins = summary.histogram_raw(
            name,
            min=edges[0],
            max=edges[-1],
            num=heights.sum(),
            sum=0.0,
            sum_squares=0.0,
            bucket_limits=edges.tolist(),
            bucket_counts=[0.0, *heights.tolist()],
        )
        self._write(Event(step=step, summary=bins))

    def write_config(self, step: int, text: str, settings: Mapping[str, Setting]) -> None:
        shown = summary.text("config", f"```json\n{text}\n```")  # it is shown as Markdown
        self._write(Event(step=step, summary=shown))
        for part in summary.hparams(dict(settings), dict.fromkeys(_COMPARED_BY)):
            self._write(Event(step=step, summary=part))

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write(self, event: Event, wall_time: float | None = None) -> None:
        if self._events is None:
            self._events = self._new_file()
        event.wall_time = time.time() if wall_time is None else wall_time
        self._events.write_event(event)
        self._events.flush()

    def _new_file(self) -> EventsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names, which void events need, and
        # tensorboardX names them by a clock that may be set back. The number is that of the launch;
        # "run" comes after the "out" with which names of earlier versions go on.
        known = (_NUMBERED.match(file.name) for file in self._folder.glob("events.*"))
        number = 1 + max((int(match[1]) for match in known if match), default=0)
        return EventsWriter(f"{self._folder}/events.run{number:05d}", f".{os.getpid()}")
