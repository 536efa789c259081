"""The checkpoints that lie in a folder: which there are, and reading them, verified.

Reading goes through the files alone (no Orbax manager), so that evaluating in a workdir in which a
training is saving neither creates nor removes anything.
"""

import contextlib
import logging
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax.experimental import multihost_utils

from diffusion_ode.checkpoints.arrays import kinds, nested_abstract, read_arrays
from diffusion_ode.checkpoints.errors import DamagedCheckpoint
from diffusion_ode.checkpoints.records import Records, check_fit, listed, read_records
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError

STATE = "state"
_STEP = re.compile(r"0|[1-9][0-9]{0,17}")  # as Orbax names its folder
_LOGGER = logging.getLogger(__name__)

Step = int | Literal["best", "best_on_test"] | None  # None: the newest

BY_TEST = "best_on_test"
BEST_BY = {"best": "validation_bpd", BY_TEST: "test_bpd"}
"""The metric whose lowest value marks a checkpoint as the best."""


def as_step(given: Any) -> Step:
    """A step as it is asked for: a whole number of any kind or as a text, "best", None.

    Raises:
      UserError: it is something else.
    """
    if given is None or (isinstance(given, str) and given in BEST_BY):
        return given  # pyright: ignore[reportReturnType]
    if isinstance(given, str) and given.isdecimal():
        return int(given)
    number: Any = None if isinstance(given, bool) else given
    try:
        return operator.index(number)
    except TypeError as error:
        raise UserError(
            f"checkpoint = {given!r} is neither a step nor 'best': give a whole number, or leave it"
            " out for the newest."
        ) from error


@dataclass(frozen=True)
class Restored:
    """One moment, read back and verified.

    `state`: arrays in the structure and on the devices asked for. `data_state`, `document`: as
    saved. `facts`: `digest` (hex, of the whole state), `metrics`, `saved_at` (seconds since 1970)
    and what the saver added (the data's fingerprint).
    """

    step: int
    state: Any
    data_state: dict[str, Any]
    document: dict[str, Any]
    facts: dict[str, Any]


class StoredCheckpoints:
    """The checkpoints of one folder, for reading: creates, moves and deletes nothing.

    Args:
        directory: `WORKDIR/checkpoints`.
        report: takes a sentence about something the user should know (damage found).
    """

    def __init__(
        self,
        directory: Path,
        *,
        report: Callable[[str], None] = _LOGGER.warning,
    ):
        self.directory = directory.absolute()
        self._report = report
        self._metrics: dict[int, dict[str, float]] = {}

    def list_steps(self) -> list[int]:
        """Steps whose checkpoint is complete on disk, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                int(entry.name)
                for entry in self.directory.iterdir()
                if _STEP.fullmatch(entry.name) and entry.is_dir()
            )
        return []

    def agreed_steps(self) -> list[int]:
        """The same as the first process sees them: others' views of a shared disk may lag."""
        return processes.by_leader(self.list_steps)

    def check_step(self, step: int, steps: Sequence[int]) -> None:
        """Refuses a step that is not among those that there are."""
        if step not in steps:
            raise UserError(
                f"{self.directory} has no checkpoint {step}: choose one of the steps {steps}, "
                "or best."
            )

    def best_step(self, which: str = "best") -> int | None:
        """The complete step with the lowest value of the metric for it; None if none has one."""
        return self._best_of(self.list_steps(), BEST_BY[which])

    def restore(self, abstract_state: Any, step: Step = None) -> Restored:
        """The newest sound checkpoint, or the one asked for, verified.

        Newer ones that are damaged are reported. One asked for by number is never replaced by
        another.

        Args:
            abstract_state: `jax.ShapeDtypeStruct`s (or arrays) in the state's structure, with the
                shardings to restore onto (the first device where there is none).
            step: a step, "best", "best_on_test", or None for the newest.

        Raises:
            UserError: there is none, none is sound, or it does not fit `abstract_state`; nothing
                on disk has changed then.
            OSError: reading failed for a reason that says nothing about the checkpoint.
        """
        return self._first_sound(step, lambda k: self._restore_one(k, abstract_state, whole=True))

    def restore_parameters(self, abstract_fields: Mapping[str, Any], step: Step = None) -> Restored:
        """Some top-level fields of the state only, e.g. `{"ema": abstract_ema}`, verified.

        Only those are read; `Restored.state` is a dict of them. Otherwise as `restore`.
        """
        fields = dict(abstract_fields)
        return self._first_sound(step, lambda k: self._restore_one(k, fields, whole=False))

    def restore_field(self, field: str, step: Step = None) -> Restored:
        """One top-level field as dicts of dicts, of whatever model it is. Raises as `restore`."""

        def read(k: int) -> Restored:
            leaves = self._agreed(lambda: read_records(self.directory / str(k))).leaves
            chosen = {name: x for name, x in leaves.items() if name.split("/")[0] == field}
            return self._restore_one(k, nested_abstract(chosen), whole=False)

        return self._first_sound(step, read)

    def read_document(self, step: Step = None) -> dict[str, Any]:
        """The config document of a checkpoint, without its arrays. Raises as `restore`."""

        def read(k: int) -> Records:
            return self._agreed(lambda: read_records(self.directory / str(k)))

        return self._first_sound(step, read).document

    def _first_sound(self, step: Step, read: Callable[[int], Any]) -> Any:
        if step is not None:
            return self._the_one(step, read)
        damaged: dict[int, str] = {}
        while candidates := [k for k in self.agreed_steps() if k not in damaged]:
            newest = candidates[-1]
            try:
                result = read(newest)
            except DamagedCheckpoint as damage:
                damaged[newest] = str(damage)
            else:
                for step, what in damaged.items():
                    if (self.directory / str(step)).exists():
                        self._report(f"checkpoint {step} in {self.directory} is damaged: {what}")
                self._set_aside(list(damaged))
                return result
        if not damaged:
            raise UserError(
                f"{self.directory} holds no checkpoint: train first, or correct --workdir."
            )
        same = len(set(damaged.values())) == 1  # then it is said once
        reasons = damaged[max(damaged)] if same else listed(f"{k}: {v}" for k, v in damaged.items())
        raise UserError(
            f"Every checkpoint in {self.directory} is damaged ({reasons}), and nothing was changed:"
            " where that cannot be mended, restore the folder from a copy, or start again in"
            " another --workdir."
        )

    def _the_one(self, step: int | str, read: Callable[[int], Any]) -> Any:
        steps = self.agreed_steps()
        chosen = step
        if isinstance(step, str):
            chosen = processes.by_leader(lambda: self.best_step(step))
        if chosen is None:
            other = BY_TEST if step == "best" else "best"
            watched = processes.by_leader(lambda: self.best_step(other))
            raise UserError(
                f"The run of {self.directory} was watched on test images, which choose nothing:"
                f" choose one of the steps {steps}, or give --checkpoint={BY_TEST} to choose by"
                " them all the same."
                if watched and other == BY_TEST
                else f"The run of {self.directory} was judged on validation images, not on test"
                " images: give --checkpoint=best."
                if watched
                else f"No checkpoint in {self.directory} was judged on held-out images, so none is"
                f" the best: choose one of the steps {steps}, or leave --checkpoint out."
            )
        self.check_step(int(chosen), steps)
        try:
            return read(int(chosen))
        except DamagedCheckpoint as damage:
            others = [k for k in steps if k != chosen]
            remedy = f"choose another one of {others}" if others else "restore it from a copy"
            raise UserError(
                f"Checkpoint {chosen} in {self.directory} is damaged ({damage}): {remedy}."
            ) from damage

    def _restore_one(self, step: int, abstract: Any, whole: bool) -> Restored:
        folder = self.directory / str(step)
        records = self._agreed(lambda: read_records(folder))
        check_fit(folder, records.leaves, kinds(abstract), whole)
        state = self._agreed(lambda: read_arrays(folder / STATE, records.leaves, abstract))
        return Restored(step, state, records.data_state, records.document, records.facts)

    def _agreed(self, read: Callable[[], Any]) -> Any:
        """Read, and find it damaged if any process does: all must go on to the same checkpoint."""
        if processes.count() == 1:
            return read()
        try:
            result, damage = read(), None
        except DamagedCheckpoint as mine:
            result, damage = None, mine
        if multihost_utils.process_allgather(np.int32(damage is not None)).any():
            raise damage or DamagedCheckpoint("another process found it so")
        return result

    def _set_aside(self, damaged: Sequence[int]) -> None:
        """What happens to damaged checkpoints once an older one has proved sound."""

    def _best_of(self, steps: Sequence[int], metric: str) -> int | None:
        values = {step: self._metric(step, metric) for step in steps}
        finite = {step: value for step, value in values.items() if math.isfinite(value)}
        return min(finite, key=lambda step: (finite[step], -step), default=None)

    def _metric(self, step: int, metric: str) -> float:
        """The value that a metric had at a step, NaN if unknown."""
        if step not in self._metrics:
            try:
                self._metrics[step] = read_records(self.directory / str(step)).facts["metrics"]
            except (DamagedCheckpoint, OSError):
                self._metrics[step] = {}
        return float(self._metrics[step].get(metric, math.nan))
