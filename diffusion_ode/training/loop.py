"""The loop around the compiled step: everything that touches the world while training."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.distributed.interruption import Interruption
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.metric_writers import WALL_TIME, MetricWriters
from diffusion_ode.reporting.progress import Progress, rate
from diffusion_ode.training.profiling import Profiler
from diffusion_ode.training.program import CompiledStep, TrainProgram
from diffusion_ode.training.state import TrainState
from diffusion_ode.training.step_metrics import BITS_BY_TIME, bits_by_time
from diffusion_ode.training.utilisation import Utilisation, device_memory
from diffusion_ode.training.validation import ValidationCurve


class Batches(Protocol):
    """Endless batches whose position can be saved."""

    def __next__(self) -> dict[str, np.ndarray]: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


class NotFinite(RuntimeError):
    """The loss or its gradient is no longer a number; nothing of that step has been saved."""


@dataclass(frozen=True)
class Intervals:
    """After how many steps something is done; the last step is always included.

    Args:
      log: metrics are written.
      checkpoint: the state is saved.
      pictures: a grid of samples is drawn; None never.
    """

    log: int
    checkpoint: int
    pictures: int | None = None


@dataclass
class TrainLoop:
    """Steps from where a state stands to the end of its run.

    One step is always under way on the device while the host makes the next batch ready and looks
    at the metrics of the one before, so that a loss which is not finite is seen one step later.

    Attributes:
      program, step: what is trained, compiled.
      batches: where they come from.
      checkpoints: where states go.
      writers: where metrics go.
      progress: what the screen shows.
      interruption: who may ask to stop.
      intervals: what is done when.
      document, facts: saved with every checkpoint.
      seconds: that `run` took.
      draw_picture: from the averaged parameters, uint8 [height, width, channels].
      validation: on held-out images; by default none.
      utilisation: of the devices; None where it is not known.
      profiler: records some of the steps; None records none.
    """

    program: TrainProgram
    step: CompiledStep
    batches: Batches
    checkpoints: Checkpoints
    writers: MetricWriters
    progress: Progress
    interruption: Interruption
    intervals: Intervals
    document: dict[str, Any]
    facts: dict[str, Any]
    draw_picture: Callable[[Any], np.ndarray]
    validation: ValidationCurve = field(default_factory=ValidationCurve)
    utilisation: Utilisation | None = None
    profiler: Profiler | None = None
    seconds: float = 0.0
    _under_way: deque = field(default_factory=deque)
    _since_log: list[dict[str, float]] = field(default_factory=list)
    _since_save: list[float] = field(default_factory=list)
    _by_time: Any = 0.0  # as of the step, summed over the steps since the last log
    _waiting: float = 0.0
    _validated: dict[str, float] = field(default_factory=dict)

    def run(self, state: TrainState) -> TrainState:
        """Trains to the end, saving on the way.

        Raises:
          NotFinite: the loss or its gradient is not finite; the last checkpoint is intact.
          Interrupted: asked to stop; the state is saved.
        """
        first, done = int(state.first_step), int(state.step)
        last = done if self.validation.stops else first + self.program.num_steps
        logged = begun = time.perf_counter()
        taken = self.program.steps_per_call
        check_in_calls(taken, {"num_steps less the steps that are done": last - done})
        while done < last:
            self._begin_profile(range(done + 1 - first, done + 1 + taken - first), first)
            # What XProf and TensorBoard's profile find the steps by.
            with jax.profiler.StepTraceAnnotation("train", step_num=done + 1 - first):
                state, metrics = self.step(state, self._next_batch())
            done += taken
            self._under_way.append((done, metrics))
            self._settle(but=1, first=first)
            self._end_profile(done - first, first)

            stopping = self.interruption.agreed()
            lowest = False
            if self.validation.every and due(done, self.validation.every, last, taken):
                logged += self._validate(done, state, first)
                lowest = self.validation.is_lowest
                last = done if self.validation.stops else last
            if due(done, self.intervals.log, last, taken):
                self._settle(but=0, first=first)
                logged = self._log(done, logged)
            elif self._validated:
                self._write(done, self._validated)
                self._validated = {}
            if due(done, self.intervals.checkpoint, last, taken) or stopping or lowest:
                self._settle(but=0, first=first)
                self._save(done, state)
            if stopping:
                self.checkpoints.wait()
                self.interruption.raise_if_requested()
            if self.intervals.pictures and due(done, self.intervals.pictures, last, taken):
                drawn = time.perf_counter()
                with self.progress.pause():  # no part of the training's speed, here and below
                    self.writers.write_image(done, "samples", self.draw_picture(state.ema))
                logged += time.perf_counter() - drawn
            self.checkpoints.check()
        self.progress.end()
        self.checkpoints.wait()
        # During the last step, or its save: what follows the training shall wait. A vote answers
        # the call before it.
        self.interruption.agreed()
        if self.interruption.agreed():
            self.interruption.raise_if_requested()
        self.seconds = time.perf_counter() - begun
        return state

    def _begin_profile(self, numbers: range, first: int) -> None:
        if self.profiler is not None and any(map(self.profiler.begins_with, numbers)):
            self._settle(but=0, first=first)
            self.profiler.begin()

    def _end_profile(self, number: int, first: int) -> None:
        if self.profiler is not None and self.profiler.ends_with(number):
            self._settle(but=0, first=first)
            self.profiler.end()

    def _next_batch(self):
        start = time.perf_counter()
        batches = [next(self.batches) for _ in range(self.program.steps_per_call)]
        self._waiting += time.perf_counter() - start
        return self.program.place(*batches)

    def _settle(self, but: int, first: int) -> None:
        """Waits for the metrics of all steps under way but the newest `but`."""
        while len(self._under_way) > but:
            done, metrics = self._under_way.popleft()
            for number, values in self._of_each_step(done, metrics):
                self._settle_one(number, first, values)

    def _of_each_step(self, done: int, metrics) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        arrays = {name: np.asarray(value) for name, value in metrics.items()}
        taken = self.program.steps_per_call
        if taken == 1:
            yield done, arrays
            return
        for i in range(taken):
            yield done - taken + 1 + i, {name: array[i] for name, array in arrays.items()}

    def _settle_one(self, done: int, first: int, arrays: dict[str, np.ndarray]) -> None:
        self._by_time = self._by_time + arrays.pop(BITS_BY_TIME, 0.0)
        values = {name: float(value) for name, value in arrays.items()}
        if not (math.isfinite(values["bpd"]) and math.isfinite(values["gradient_norm"])):
            newest = self.checkpoints.latest_step()
            kept = "there is no checkpoint yet"
            if newest is not None:
                kept = f"the newest checkpoint, of step {newest}, is from before"
            raise NotFinite(
                f"the loss at step {done} is {values['bpd']} and its gradient's norm"
                f" {values['gradient_norm']}; {kept}: lower the learning rate of train.optimizer"
                " and run again"
            )
        self._since_log.append(values)
        self._since_save.append(values["bpd"])
        speed = self.progress.speed()
        details = [f"{self._recent_bpd():.3f} bpd", *self.validation.words()]
        if speed:
            details.append(f"{rate(speed * self.program.batch_size)} images/s")
            if self.utilisation is not None:
                details.append(f"{100 * self.utilisation.at(speed):.0f} % MFU")
        self.progress.update(done - first, *details)

    def _validate(self, done: int, state: TrainState, first: int) -> float:
        """Judges the averaged parameters; the seconds that it took."""
        self._settle(but=0, first=first)
        start = time.perf_counter()
        with self.progress.pause():
            self._validated = self.validation.validate(done, state.ema)
        return time.perf_counter() - start

    def _recent_bpd(self) -> float:
        """Over the last few steps: a single batch's loss jumps about."""
        return float(np.mean(self._since_save[-50:]))

    def _log(self, done: int, logged: float) -> float:
        now = time.perf_counter()
        count = len(self._since_log)
        names = self._since_log[0] if self._since_log else {}
        scalars = {
            f"train/{name}": float(np.mean([step[name] for step in self._since_log]))
            for name in names
        }
        scalars["train/images_per_second"] = count * self.program.batch_size / (now - logged)
        if self.utilisation is not None:
            scalars["train/mfu"] = self.utilisation.at(count / (now - logged))
        scalars["train/input_wait"] = self._waiting / (now - logged)
        self._write(done, {**scalars, **device_memory(), **self._validated})
        if np.ndim(self._by_time):
            edges, heights = bits_by_time(self.program.model, self._by_time)
            self.writers.write_histogram(done, f"train/{BITS_BY_TIME}", edges, heights)
        self._by_time = 0.0
        self._since_log.clear()
        self._validated = {}
        self._waiting = 0.0
        return now

    def _write(self, done: int, scalars: dict[str, float]) -> None:
        self.writers.write_scalars(done, {**scalars, WALL_TIME: time.time()})

    def _save(self, done: int, state: TrainState) -> None:
        metrics = {"bpd": float(np.mean(self._since_save))} if self._since_save else {}
        metrics |= self.validation.metrics(done)
        facts = {**self.facts, **self.validation.facts()}
        data_state = self.batches.get_state()
        self.checkpoints.save(done, state, data_state, self.document, metrics, facts)
        self._since_save.clear()


def check_in_calls(taken: int, counts: Mapping[str, int | None]) -> None:
    """Refuses counts of steps that end within a call of `taken` steps.

    Raises:
      UserError: one of them does.
    """
    for name, count in counts.items():
        if count is not None and count % taken:
            raise UserError(
                f"train.{name} = {count} is not a multiple of train.steps_per_call = {taken}:"
                " choose a multiple, or set that to 1."
            )


def due(done: int, interval: int, last: int, taken: int = 1) -> bool:
    """Whether something of that interval is due after `done` steps, `taken` of them just now."""
    return done % interval < taken or done == last
