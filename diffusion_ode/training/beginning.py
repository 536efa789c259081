"""How a run begins: it resumes, else it starts warm, else it starts fresh."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.computation import keeps_parameters
from diffusion_ode.configs.documents import Change
from diffusion_ode.errors import UserError
from diffusion_ode.training.data_identity import (
    DataIdentity,
    check_data,
    check_data_of_source,
    check_held_out,
)
from diffusion_ode.training.origins import assumptions
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.state import TrainState
from diffusion_ode.training.warm_start import WarmStart

# Fields that a checkpoint's numbers depend on: with another value it is another run.
_FIXED = ("model.", "data.", "train.batch_size", "train.seed")
# Fields that decide what the steps to come do: to change them is a decision, not an accident.
_OPTIMIZING = ("train.objective.", "train.optimizer.", "train.average.", "train.accumulation.")


class Beginning(NamedTuple):
    """The first state, the data iterator's (None: at its beginning), and a sentence about it.

    `facts`: of the checkpoint that is resumed.
    """

    state: TrainState
    data_state: dict[str, Any] | None
    sentence: str
    facts: Mapping[str, Any] = MappingProxyType({})


def begin(
    program: TrainProgram,
    checkpoints: Checkpoints,
    warm_start: WarmStart,
    init_from: str | None,
    data: DataIdentity,
    say: Callable[[str], None],
    images: np.ndarray | None = None,
    *,
    held_out: int = 0,
) -> Beginning:
    """The moment from which a run goes on.

    Args:
      program: what is trained.
      checkpoints: of this run's own workdir; they come first.
      warm_start: what else it may start from.
      init_from: as asked for on the command line; comes before the experiment's own source.
      data: that were loaded.
      say: takes a sentence about data that are others than the source's, or known by name only.
      images: of training, which a fresh model's base is fitted to.
      held_out: images at the end of the training set that shall choose.

    Raises:
      UserError: a checkpoint does not fit, was made from other data, or was trained on images
        that shall choose.
    """
    if checkpoints.agreed_steps():
        restored = checkpoints.restore(program.abstract_state)
        check_data(restored.facts, data, f"checkpoint {restored.step}", say)
        sentence = f"resuming at step {restored.step}"
        if init_from:
            sentence += f" of this workdir's own checkpoints; --init_from={init_from} is not used"
        return Beginning(restored.state, restored.data_state, sentence, restored.facts)
    source = init_from or warm_start.source
    if source is not None:
        taken = warm_start.restore(program, source)
        check_data_of_source(taken.facts, data, source, say, asked_for=init_from is not None)
        made_from = DataIdentity.of_facts(taken.facts)
        if held_out and made_from is not None and made_from.fits(data):
            remedy = (
                "set data.held_out={then} as it was there, or train.validation_images=0 to choose"
                " nothing by them."
            )
            check_held_out(taken.document, held_out, source, "validation", remedy)
        state = warm_start.state(program, taken)
        sentence = f"starting warm from {source}, step {int(state.step)}"
        return Beginning(state, None, sentence + assumptions(taken, program.model))
    return Beginning(program.fresh_state(images), None, "starting fresh")


def check_changes(
    changes: Sequence[Change],
    experiment: Any,
    say: Callable[[str], None],
    *,
    workdir: Path,
    asked_for: bool,
) -> None:
    """Says what differs from the config that this workdir's last training had.

    Args:
      changes: from that config to this launch's.
      experiment: this launch's, built.
      say: takes a sentence about each.
      workdir: of the run.
      asked_for: whether the optimisation may change within the run.

    Raises:
      UserError: something differs that would make the checkpoints another run's, or that changes
        the optimisation without being asked for.
    """
    elsewhere = f"begin another run from these parameters by --init_from={workdir} --workdir=NEW"
    for change in changes:
        if makes_another_run(change, experiment):
            raise UserError(
                f"This workdir's run has {change.path} = {change.before}, not {change.after}: keep"
                f" that, or {elsewhere}."
            )
    altering = [change for change in changes if _alters_optimization(change, experiment)]
    if altering and not asked_for:
        raise UserError(
            f"The steps to come would be taken otherwise than those before"
            f" ({'; '.join(map(str, altering))}): add --continue_with_changes if that is meant,"
            f" keep what was, or {elsewhere}."
        )
    for change in changes:
        say(f"changed since the last training here: {change}")


def _alters_optimization(change: Change, experiment: Any) -> bool:
    """Of a field that both sides have; one that only one has is another version's."""
    known = change.before is not None and change.after is not None
    touched = f"{change.path}.".startswith(_OPTIMIZING)
    return known and touched and not keeps_parameters(experiment, change.path)


def makes_another_run(change: Change, experiment: Any) -> bool:
    """Whether checkpoints from before the change are of no use after it.

    They are if the field says only how something is computed. A field that only one side has is
    another version's, whose default is the old behaviour.
    """
    fixed = f"{change.path}.".startswith(_FIXED)  # `model` itself is as fixed as what is in it
    if not (fixed and change.before and change.after):
        return False
    return not keeps_parameters(experiment, change.path)
