"""The task that compares two evaluations."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_ode.checking import check_fields, shown
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.comparison import compare
from diffusion_ode.evaluation.comparison_in_words import in_words
from diffusion_ode.evaluation.evaluated import Evaluated, finished, kind_of, list_finished, of_name
from diffusion_ode.foreign import refused
from diffusion_ode.home import expanded
from diffusion_ode.tasks.evaluate import Evaluate
from diffusion_ode.tasks.kept_apart import check_kinds
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import made_before
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.result_files import write_json

_DIGITS = 6  # of a hash: enough to tell the few models of one user


@dataclass(frozen=True)
class Compare:
    """The difference between two evaluations: of two models, or of one on different images.

    Two models are compared image by image on the same images, so that the images' own spread, which
    is most of a mean's standard error, cancels. Without another model two evaluations of this
    workdir are compared, such as those of training and test images.

    Args:
      evaluation: name of this workdir's, e.g. "truncated_normal-k1", or with the checkpoint's step
        before it, "1000-truncated_normal-k1"; of several steps the newest. None takes the newest
        whose name the other workdir has, too.
      other: the same of the other workdir's; None takes the name of this one's.
    """

    evaluation: str | None = None
    other: str | None = None

    __post_init__ = check_fields

    def run(self, run: Run) -> TaskResult:
        """Compares this workdir's evaluation with that of `--with WORKDIR`, or with another."""
        self._check_place(run)
        here, there = self._evaluations(run)
        folders = f"{here.folder} or {there.folder}"
        with (
            refused(lambda why: f"{folders} holds no whole result ({why}): evaluate anew."),
            np.errstate(over="raise", divide="raise"),
        ):
            result = compare(here, there)
            rows = list(in_words(result))
        name = f"{here.folder.name}-with-{_label(here.folder, there.folder)}.json"
        run.begin()
        if processes.is_leader():
            run.recorder.check_there()
            write_json(run.workdir / "comparisons" / name, result)
        written = [("comparison", run.workdir / "comparisons" / name)]
        return TaskResult(rows, written)

    def check_reading(self, run: Run) -> None:
        """Refuses names that no evaluation has now, and none will have before this task's turn."""
        self._check_place(run)
        if made_before(run.experiment, "compare"):  # by a task of one's own, under any name
            return
        there = list_finished(run.workdir)
        judge, coming = getattr(run.experiment, "evaluate", None), None
        if made_before(run.experiment, "compare", "evaluate") and isinstance(judge, Evaluate):
            coming = judge.name_of(judge.find_images(run))
        for setting in ("evaluation", "other"):
            name = getattr(self, setting)
            if name is not None and (coming is None or not _is_of(name, coming)):
                Evaluated.read(_of(there, name, setting, coming))
        if self.evaluation is None and len({*map(kind_of, there), coming} - {None}) < 2:
            raise UserError(
                f"after_training names 'compare', for which {run.workdir} will have no evaluation"
                f" beside {self.other}: leave it out, or make another before it."
            )

    def _check_place(self, run: Run) -> None:
        processes.by_leader(lambda: check_kinds(run.workdir / "comparisons", files=("*.json",)))

    def _evaluations(self, run: Run) -> tuple[Evaluated, Evaluated]:
        """This workdir's, and the one that it is compared with."""
        other, wanted = run.options.get("with"), self.evaluation
        if other is None and self.other is None:
            raise UserError(
                "The task compare needs another model or evaluation: name the other's folder by"
                " --with=WORKDIR, or another evaluation of this one by --set compare.other=NAME."
            )
        here = finished(run.workdir)
        if other is None:
            assert self.other is not None
            theirs = of_name(here, self.other)
            mine = _beside(theirs, here) if wanted is None else of_name(here, wanted)
        else:
            there = finished(expanded(other))
            if wanted is None and self.other is None:
                names = {kind_of(folder) for folder in there}
                wanted = next((kind for kind in map(kind_of, here) if kind in names), None)
            mine = here[0] if wanted is None else of_name(here, wanted)
            theirs = of_name(there, self.other or kind_of(mine))
        return Evaluated.read(mine), Evaluated.read(theirs)


def _is_of(name: str, kind: str) -> bool:
    """Whether a name is that of an evaluation, perhaps with a step before it."""
    step, _, rest = name.partition("-")
    return name == kind or (step.isdecimal() and rest == kind)


def _of(found: list[Path], name: str, setting: str, coming: str | None) -> Path:
    """The folder of a name that is there already."""
    for folder in found:
        if name in (folder.name, kind_of(folder)):
            return folder
    names = [folder.name for folder in found] + ([f"{coming} of this launch"] if coming else [])
    raise UserError(
        f"compare.{setting} = {shown(name)} is no evaluation that there will be, which"
        f" {'are ' + ', '.join(names) if names else 'are none'}: name one of them, or"
        " put the task that makes it before 'compare' in after_training."
    )


def _beside(theirs: Path, found: list[Path]) -> Path:
    """The newest evaluation of the same step besides this one."""
    step = theirs.name.partition("-")[0]
    for folder in found:
        if folder != theirs and folder.name.partition("-")[0] == step:
            return folder
    raise UserError(
        f"{theirs} is the only finished evaluation of step {step}: evaluate other images too, such"
        " as by --set evaluate.split=train, or name another model by --with=WORKDIR."
    )


def _label(mine: Path, theirs: Path) -> str:
    """A name for the other that no other folder shares, even if its last part does."""
    if theirs.resolve().parent == mine.resolve().parent:
        return theirs.name
    digest = hashlib.sha256(str(theirs.resolve()).encode()).hexdigest()[:_DIGITS]
    return f"{theirs.resolve().parents[1].name}-{digest}"
