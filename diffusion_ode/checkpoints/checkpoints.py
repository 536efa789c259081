"""Checkpoints of one moment, saved in the background and verified before use.

A checkpoint holds the train state, the data iterator's state and the config document of one and
the same moment, and facts about them: a digest of every leaf and a seal over all that is JSON.
How they are read is in `stored`.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from diffusion_ode.checkpoints.arrays import nested_arrays
from diffusion_ode.checkpoints.digest import combine, leaf_facts
from diffusion_ode.checkpoints.errors import SaveFailed, first_line
from diffusion_ode.checkpoints.records import sealed_records
from diffusion_ode.checkpoints.stored import BEST_BY, STATE, Step, StoredCheckpoints
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError

QUARANTINE = "quarantine"
_LOGGER = logging.getLogger(__name__)


class Checkpoints(StoredCheckpoints):
    """The checkpoints of one folder, for the run that saves them there.

    A context, since leaving without it loses the last save. Newest checkpoints that are damaged are
    moved to `WORKDIR/quarantine` once an older one has been restored; nothing is deleted.

    Args:
        directory: `WORKDIR/checkpoints`.
        keep: how many of the newest are kept, besides the best. With 1 nothing is left to fall back
            on.
        report: takes a sentence about something the user should know (damage found).
        check_there: raises UserError where a save would go into a folder that is no longer the
            run's; asked before every save, in every process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 3,
        report: Callable[[str], None] = _LOGGER.warning,
        check_there: Callable[[], None] = lambda: None,
    ):
        if keep < 1:
            raise UserError(f"keep is {keep}, but at least 1 checkpoint must be kept: set keep=3.")
        super().__init__(directory, report=report)
        self._keep = keep
        self._check_there = check_there
        self._manager: ocp.CheckpointManager | None = None
        self._in_flight: int | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _type: object, failure: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except SaveFailed as second:
            if failure is None:
                raise
            failure.add_note(str(second))

    def latest_step(self) -> int | None:
        """The newest step, counting one that is still being written."""
        steps = self.list_steps()
        return max(steps if self._in_flight is None else [*steps, self._in_flight], default=None)

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
            UserError: it would not be the run's.
            ValueError: a checkpoint of this or a later step exists.
        """
        self.wait()
        processes.together(self._check_there)
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
        best = (self._best_of(steps, metric) for metric in BEST_BY.values())
        return {*sorted(steps)[-self._keep :], *(step for step in best if step is not None)}

    def _first_sound(self, step: Step, read: Callable[[int], Any]) -> Any:
        self.wait()
        return super()._first_sound(step, read)

    def _set_aside(self, damaged: Sequence[int]) -> None:
        if not damaged:
            return
        if processes.is_leader():
            folder = self.directory.parent / QUARANTINE
            if folder.exists() and not folder.is_dir():
                raise UserError(
                    f"{folder} is no folder, and damaged checkpoints are kept there: give it"
                    " another name."
                )
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
