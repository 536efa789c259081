"""Checkpoints of one moment, saved in the background and verified before use.

A checkpoint holds the train state, the data iterator's state and the config document of one and
the same moment, and facts about them: a digest of every leaf and a seal over all that is JSON.
Reading goes through the files alone (no Orbax manager), so that evaluating in a workdir in which a
training is saving neither creates nor removes anything.
"""

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from diffusion_ode import processes
from diffusion_ode.checkpoints.arrays import kinds, nested_arrays, read_arrays
from diffusion_ode.checkpoints.digest import combine, leaf_facts
from diffusion_ode.checkpoints.errors import DamagedCheckpoint, SaveFailed, first_line
from diffusion_ode.checkpoints.records import (
    Records,
    check_fit,
    listed,
    read_records,
    sealed_records,
)
from diffusion_ode.errors import UserError

STATE = "state"
QUARANTINE = "quarantine"
_LOGGER = logging.getLogger(__name__)

Step = int | Literal["best"] | None  # None: the newest


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


class Checkpoints:
    """The checkpoints of one folder; a context, since leaving without it loses the last save.

    Args:
        directory: `WORKDIR/checkpoints`. Damaged ones are moved to `WORKDIR/quarantine`.
        keep: how many of the newest are kept. With 1 nothing is left to fall back on.
        best_by: the metric whose lowest value marks the best one, which is kept too.
        report: takes a sentence about something the user should know (damage found).
        read_only: creates, moves and deletes nothing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 3,
        best_by: str | None = None,
        report: Callable[[str], None] = _LOGGER.warning,
        read_only: bool = False,
    ):
        if keep < 1:
            raise UserError(f"keep is {keep}, but at least 1 checkpoint must be kept: set keep=3")
        self.directory = directory.absolute()
        self._keep = keep
        self._best_by = best_by
        self._report = report
        self._read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        self._in_flight: int | None = None
        self._metrics: dict[int, dict[str, float]] = {}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _type: object, failure: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except SaveFailed as second:
            if failure is None:
                raise
            failure.add_note(str(second))

    # --- which there are ---

    def list_steps(self) -> list[int]:
        """Steps whose checkpoint is complete on disk, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                int(entry.name)
                for entry in self.directory.iterdir()
                if re.fullmatch(r"\d+", entry.name) and entry.is_dir()
            )
        return []

    def agreed_steps(self) -> list[int]:
        """The same as the first process sees them: others' views of a shared disk may lag."""
        return processes.by_leader(self.list_steps)

    def latest_step(self) -> int | None:
        """The newest step, counting one that is still being written."""
        steps = self.list_steps()
        return max(steps if self._in_flight is None else [*steps, self._in_flight], default=None)

    def best_step(self) -> int | None:
        """The complete step with the lowest value of the metric `best_by`; None if none has it."""
        return self._best_of(self.list_steps())

    # --- saving ---

    def save(
        self,
        step: int,
        state: Any,
        data_state: Mapping[str, Any],
        document: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Save one moment in the background; returns when the state may be donated.

        Waits for the save before this one. `facts` is whatever else should be known with it.

        Raises:
            SaveFailed: this or the previous save could not be written.
            ValueError: a checkpoint of this or a later step exists.
        """
        if self._read_only:
            raise ValueError(f"{self.directory} was opened for reading only")
        self.wait()
        latest = self.latest_step()
        if latest is not None and step <= latest:
            raise ValueError(f"step {step} is not newer than the newest checkpoint, {latest}")
        leaves = leaf_facts(state)
        self._metrics[step] = {name: float(value) for name, value in (metrics or {}).items()}
        own = {
            "digest": combine(leaves),
            "metrics": self._metrics[step],
            "saved_at": time.time(),
        }
        records = sealed_records(data_state, document, {**(facts or {}), **own}, leaves)
        items: dict[str, Any] = {
            name: ocp.args.JsonSave(record) for name, record in records.items()
        }
        items[STATE] = ocp.args.PyTreeSave(nested_arrays(state))
        self._in_flight = step
        with self._failure_is_save_failed():
            if not self._open_manager().save(step, args=ocp.args.Composite(**items)):
                raise RuntimeError("the checkpoint manager refused it")

    def check(self) -> None:
        """Raise `SaveFailed` if the save in the background has failed; costs nothing, ask often."""
        if self._manager is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Return when the save in the background is complete on disk, else raise `SaveFailed`."""
        if self._manager is not None:
            with self._failure_is_save_failed():
                self._manager.wait_until_finished()
            self._in_flight = None

    def close(self) -> None:
        """Wait for the save in the background and let go of everything."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    @contextlib.contextmanager
    def _failure_is_save_failed(self) -> Iterator[None]:
        try:
            yield
        except Exception as failure:
            manager, self._manager = self._manager, None
            step, self._in_flight = self._in_flight, None
            # A failed step stays in the manager's list of steps: a new manager must be opened.
            with contextlib.suppress(Exception):
                if manager is not None:
                    manager.close()
            newest = max(self.list_steps(), default="none")
            raise SaveFailed(
                f"checkpoint {step} could not be written to {self.directory} "
                f"({first_line(failure)}); the newest complete one is {newest}: free space or mend "
                "the folder's permissions, then run the same command again"
            ) from failure

    def _open_manager(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    create=True,
                    # Left by a kill during a save; the workdir's lock keeps other writers away.
                    cleanup_tmp_directories=True,
                    # Metadata of older checkpoints may be damaged; it is not needed.
                    lightweight_initialize=True,
                    preservation_policy=_Preservation(self._kept),
                ),
            )
        return self._manager

    def _kept(self, steps: Sequence[int]) -> set[int]:
        return {*sorted(steps)[-self._keep :], self._best_of(steps)} - {None}

    def _best_of(self, steps: Sequence[int]) -> int | None:
        values = {step: self._metric(step) for step in steps}
        finite = {step: value for step, value in values.items() if math.isfinite(value)}
        return min(finite, key=lambda step: (finite[step], -step), default=None)

    def _metric(self, step: int) -> float:
        """The value that `best_by` had at a step, NaN if unknown."""
        if self._best_by is None:
            return math.nan
        if step not in self._metrics:
            try:
                self._metrics[step] = read_records(self.directory / str(step)).facts["metrics"]
            except (DamagedCheckpoint, OSError):
                self._metrics[step] = {}
        return float(self._metrics[step].get(self._best_by, math.nan))

    # --- restoring ---

    def restore(self, abstract_state: Any, step: Step = None) -> Restored:
        """The newest sound checkpoint, or the one asked for, verified.

        The newest ones that are damaged are reported and, once an older one has proved sound,
        moved to the quarantine folder; nothing is deleted. One asked for by number is never
        replaced by another.

        Args:
            abstract_state: `jax.ShapeDtypeStruct`s (or arrays) in the state's structure, with the
                shardings to restore onto (the first device where there is none).
            step: a step, "best", or None for the newest.

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

    def read_document(self, step: Step = None) -> dict[str, Any]:
        """The config document of a checkpoint, without its arrays. Raises as `restore`."""

        def read(k: int) -> Records:
            return self._agreed(lambda: read_records(self.directory / str(k)))

        return self._first_sound(step, read).document

    def _first_sound(self, step: Step, read: Callable[[int], Any]) -> Any:
        self.wait()
        if step is not None:
            return self._the_one(step, read)
        damaged: dict[int, str] = {}
        while candidates := [k for k in self.agreed_steps() if k not in damaged]:
            newest = candidates[-1]
            try:
                result = read(newest)
            except DamagedCheckpoint as damage:
                if (self.directory / str(newest)).exists():
                    self._report(f"checkpoint {newest} in {self.directory} is damaged: {damage}")
                damaged[newest] = str(damage)
            else:
                self._quarantine(damaged)
                return result
        if not damaged:
            raise UserError(f"{self.directory} holds no checkpoint: train first, or mend --workdir")
        reasons = listed(f"{k}: {why}" for k, why in damaged.items())
        raise UserError(
            f"every checkpoint in {self.directory} is damaged ({reasons}) and nothing was changed: "
            "restore the folder from a copy, or start again in another --workdir"
        )

    def _the_one(self, step: int | str, read: Callable[[int], Any]) -> Any:
        steps = self.agreed_steps()
        chosen = processes.by_leader(self.best_step) if step == "best" else step
        if chosen is None:
            raise UserError(
                f"no checkpoint in {self.directory} has a value of {self._best_by!r}, so none is "
                f"the best: choose one of the steps {steps} or leave --checkpoint away"
            )
        if chosen not in steps:
            raise UserError(
                f"{self.directory} has no checkpoint {chosen!r}: choose one of the steps {steps}, "
                "or 'best'"
            )
        try:
            return read(int(chosen))
        except DamagedCheckpoint as damage:
            others = [k for k in steps if k != chosen]
            raise UserError(
                f"checkpoint {chosen} in {self.directory} is damaged ({damage}): choose another "
                f"one of {others}"
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

    def _quarantine(self, damaged: Mapping[int, str]) -> None:
        if self._read_only or not damaged:
            return
        if processes.is_leader():
            folder = self.directory.parent / QUARANTINE
            folder.mkdir(exist_ok=True)
            for step in damaged:
                names = (str(step), *(f"{step}-{k}" for k in range(2, 10_000)))
                target = next(folder / name for name in names if not (folder / name).exists())
                (self.directory / str(step)).rename(target)
                self._report(f"checkpoint {step} was moved to {target}")
        if processes.count() > 1:
            multihost_utils.sync_global_devices("quarantine")


@dataclass
class _Preservation:
    """Orbax's protocol of a policy, from a function that picks the steps to keep."""

    kept: Callable[[Sequence[int]], set[int]]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self.kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]
