"""Where a task that judges or draws takes its parameters and its images from."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax

from diffusion_ode.checkpoints.stored import BEST_BY, Restored, Step, StoredCheckpoints
from diffusion_ode.configs import documents
from diffusion_ode.configs.documents import Document
from diffusion_ode.diffusion.model import abstract_parameters
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.judged_images import JudgedImages, Split
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.ranges import is_count
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Source
from diffusion_ode.training.beginning import makes_another_run
from diffusion_ode.training.data_identity import DataIdentity, check_data, check_held_out
from diffusion_ode.training.origins import assumptions, parse_origin
from diffusion_ode.training.sharding import Mesh


def load_model(run: Run, report: Callable[[str], None]) -> LoadedModel:
    """The model with the parameters of `--init_from`, else of a checkpoint of the run's workdir.

    Of the workdir's it is a step, "best", or the newest.

    Raises:
      UserError: there is none, or it does not fit the experiment.
    """
    model = run.experiment.model
    placement = run.experiment.mesh.build()
    if processes.count() > 1:  # each works on images of its own
        placement = Mesh().build(over=jax.local_devices())
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement.replicated),
        abstract_parameters(model),
    )
    restored = (_elsewhere if run.init_from else _in_workdir)(run, {"ema": abstract}, report)
    parameters, facts = restored.state["ema"], restored.facts
    return LoadedModel(
        model.bound(parameters), parameters, restored.step, facts, placement, restored.document
    )


def load_images(
    run: Run,
    loaded: LoadedModel,
    split: Split,
    num_images: int | None,
    say: Callable[[str], None],
    *,
    source: Source | None = None,
) -> JudgedImages:
    """The first images of a split, of the run's own data or of another source.

    Args:
      run: whose data they are.
      loaded: the model that is to judge them.
      split: which.
      num_images: None for all.
      say: takes a sentence if the data are known by name only.
      source: None for the data that the run's experiment has.

    Raises:
      UserError: there are none, the run's are not those of the checkpoint, or they are taken for
        held-out ones and it was trained on them.
    """
    images = find_images(run, split, num_images, source=source)
    if source is None:
        check_data(loaded.facts, images.identity, f"checkpoint {loaded.step}", say)
    if source is None and split != "test":
        remedy = "leave data.held_out at {then}, as it was trained, or judge the test images."
        held_out, what = run.experiment.data.held_out, f"The model of step {loaded.step}"
        check_held_out(loaded.document, held_out, what, split, remedy)
    return images


def find_images(
    run: Run, split: Split, num_images: int | None, *, source: Source | None = None
) -> JudgedImages:
    """The same, for whichever model the run will have trained.

    Raises:
      UserError: there are none, or they are no images of the experiment's model.
    """
    given = run.load_data(source)
    identity, levels = DataIdentity(given.manifest.name, given.fingerprint), given.split(split)
    if not len(levels):
        own = ", or train with some held out by --set data.held_out=…" if source is None else ""
        raise UserError(f"{identity.name} has no {split} images: give another split{own}.")
    first = levels[:num_images]
    run.experiment.model.pixels.check(first)
    return JudgedImages(first, identity, split, len(levels))


def _in_workdir(run: Run, wanted: Mapping[str, Any], report: Callable[[str], None]) -> Restored:
    folder = run.workdir / "checkpoints"
    if not folder.is_dir():
        raise UserError(
            f"{run.workdir} holds no checkpoint: train first with"
            f" `{run.next_command()}`, or name another --workdir."
        )
    checkpoints = StoredCheckpoints(folder, report=report)
    restored = checkpoints.restore_parameters(wanted, parse_step(run.checkpoint))
    _refuse_other_model(run, restored.document, f"Checkpoint {restored.step} of {run.workdir}")
    return restored


def _elsewhere(run: Run, wanted: Mapping[str, Any], report: Callable[[str], None]) -> Restored:
    assert run.init_from is not None
    if run.checkpoint is not None:
        raise UserError(
            f"--checkpoint={run.checkpoint} chooses among the workdir's own checkpoints, and"
            f" --init_from={run.init_from} takes one from elsewhere: give one of the two; another"
            " run's step is --init_from=WORKDIR@STEP."
        )
    restored = parse_origin(run.init_from).restore(run.experiment.model, wanted)
    _refuse_other_model(run, restored.document, run.init_from)
    assumed = assumptions(restored, run.experiment.model)
    report(f"the parameters are those of {run.init_from}, step {restored.step}{assumed}")
    return restored


def _refuse_other_model(run: Run, document: Document, source: str) -> None:
    """Another path or parameterisation fits the same parameters, and gives wrong figures.

    Args:
      run: whose model it shall be.
      document: of the experiment that the parameters were trained in; empty if they came without.
      source: where they come from, for the sentence.
    """
    changes = documents.difference(document, run.document) if document else []
    for change in changes:
        if change.path.split(".")[0] == "model" and makes_another_run(change, run.experiment):
            raise UserError(
                f"{source} was trained with another model ({change.path} was {change.before}, now"
                f" {change.after}): give the --set or --exp that it had."
            )


def parse_step(checkpoint: str | None) -> Step:
    """The step that `--checkpoint` names; None if it is not given.

    Raises:
      UserError: it is neither a step nor "best".
    """
    if checkpoint is None or checkpoint in BEST_BY:
        return cast(Step, checkpoint)
    if not is_count(checkpoint):
        raise UserError(
            f"--checkpoint={checkpoint} is neither a step nor `best`: give a whole number, or leave"
            " it out for the newest."
        )
    return int(checkpoint)
