"""The task that measures likelihoods."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from diffusion_ode.checking import check_fields, shown
from diffusion_ode.costs.lanes import check_divided, check_draws_fit, check_lanes
from diffusion_ode.diffusion.dequantization import UniformDequantization
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation import result as figures
from diffusion_ode.evaluation.bound_pass import BoundPass
from diffusion_ode.evaluation.earlier_result import earlier_result, kept_parts, kept_times
from diffusion_ode.evaluation.in_words import in_words
from diffusion_ode.evaluation.judged_images import JudgedImages, Split
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.evaluation.ode_pass import OdePass
from diffusion_ode.evaluation.passes import fill
from diffusion_ode.evaluation.per_example import PerExampleTable
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.evaluation.settings import ANOTHER_NAME, EvaluationSettings
from diffusion_ode.inference.draw_combination import check_draws
from diffusion_ode.inference.likelihood import STARTED_TOGETHER, OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.randomness import stream_key
from diffusion_ode.ranges import Count, CountFromZero, Seed
from diffusion_ode.reporting.compilation_time import CompilationTime
from diffusion_ode.reporting.console import Console
from diffusion_ode.tasks.interruptible import interruptible
from diffusion_ode.tasks.kept_apart import check_kinds
from diffusion_ode.tasks.loading import find_images, load_images, load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Source, Subject
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.code import code_facts
from diffusion_ode.workdir.lock import workdir_lock
from diffusion_ode.workdir.result_files import write_json


@dataclass(frozen=True)
class Evaluate:
    """How likelihoods of images are measured, by the variational bound and by the ODE.

    Args:
      num_images: the first n of the split; None for all.
      num_importance: K, dequantised draws per image.
      ode: the likelihood by the probability-flow ODE; None for the bound alone.
      bound: the variational bound; None for the ODE alone.
      error_images: how many images, the first ones, are solved again with one thing changed at a
        time, to find the parts of the standard error and the solver's error; 0 for none.
      quirks: of the published program, to reproduce its figures; all off.
      name: of this evaluation's folder; None names it after what is evaluated.
      seed: of everything drawn.
      split: the images that are judged: train, validation or test.
      data: another source of images to judge, of the same shape and levels; None judges the
        experiment's own.
    """

    num_images: Count | None = None
    num_importance: Count = 1
    ode: OdeLikelihood | None = field(default_factory=OdeLikelihood)
    bound: VariationalBound | None = field(default_factory=VariationalBound)
    error_images: CountFromZero = 32
    quirks: ReferenceQuirks = field(default_factory=ReferenceQuirks)
    name: str | None = None
    seed: Seed = 0
    split: Split = "test"
    data: Source | None = None

    def __post_init__(self):
        check_fields(self)
        if self.name is not None and not re.fullmatch(r"[\w.-]{1,50}", self.name):
            raise UserError(
                f"evaluate.name = {shown(self.name)} cannot name a folder: use at most 50"
                " letters, digits, '.', '-' and '_'."
            )
        if self.ode is None and self.bound is None:
            raise UserError(
                "evaluate.ode and evaluate.bound are both None, which leaves nothing to evaluate:"
                " set at most one of them to None."
            )
        if self.ode is not None:
            check_draws(self.ode.dequantization, self.ode.combination, self.num_importance)
        if self.quirks.single_probe:
            raise UserError(
                "evaluate.quirks.single_probe is True, but it is a quirk of training: set"
                " train.objective.residual=single_probe() instead."
            )
        uniform = self.ode is not None and isinstance(
            self.ode.dequantization, UniformDequantization
        )
        if self.quirks.unscaled_uniform and not uniform:
            raise UserError(
                "evaluate.quirks.unscaled_uniform is True, but it says where the ODE of uniform"
                " dequantisation starts: set evaluate.ode.dequantization=uniform_dequantization()"
                " too, or leave it out."
            )

    def run(self, run: Run) -> TaskResult:
        """Judges every image once, and writes `result.json` and `per_example.csv`."""
        with interruptible(run) as console:
            self.check(run.experiment)
            loaded = load_model(run, console.print)
            images = load_images(
                run, loaded, self.split, self.num_images, console.print, source=self.data
            )
            if self.ode is not None:
                loaded.lanes_sharding(self.ode.lanes)  # refused now, not when all is compiled
            folder = run.workdir / "evaluations" / f"{loaded.step}-{self.name_of(images)}"
            _check_place(folder.parent, folder.name)
            settings = EvaluationSettings(folder, run.experiment, run.document, loaded, images)
            with workdir_lock(folder, run.command_line, ANOTHER_NAME):
                processes.by_leader(settings.check)
                run.begin(data_fingerprint=images.identity.fingerprint, checkpoint=loaded.step)
                console.log_to(run.log_path)
                processes.by_leader(settings.write)
                console.print(f"evaluating step {loaded.step} on {images}")
                run.say_changes("evaluate", console.print)
                result = {
                    "experiment": run.name,
                    "command": run.command_line,
                    "data": images.facts(),
                    **self._judged(folder, loaded, images, console),
                    "quirks": [name for name, on in vars(self.quirks).items() if on],
                    "checkpoint": {"step": loaded.step, "digest": loaded.facts["digest"]},
                    "code": {
                        "trained": loaded.facts.get("code"),
                        "judged": code_facts(),
                    },
                    "seed": self.seed,
                    "config": run.document,
                    "devices": sorted({device.device_kind for device in jax.devices()}),
                }
                if processes.is_leader():
                    run.recorder.check_there()
                    write_json(folder / "result.json", result)
        return TaskResult(
            rows=in_words(result),
            written=[
                ("results", folder / "result.json"),
                ("per image", folder / "per_example.csv"),
            ],
            next_flags=["--task=sample"],
        )

    def check(self, experiment: Subject) -> None:
        """Refuses what does not go with the model, before anything is read or compiled."""
        model, data = experiment.model, self.data or experiment.data
        shape, levels = tuple(model.pixels.shape), model.pixels.levels
        if (tuple(data.shape), data.levels) != (shape, levels):
            raise UserError(
                f"evaluate.data = {data.name} has images of shape {tuple(data.shape)} with"
                f" {data.levels} levels, but the model is for {shape} with {levels}: give a source"
                " of such images."
            )
        ode, bound = self.passes()
        if ode is not None:
            check_lanes("evaluate.ode.lanes", model, ode.ode.lanes)
            check_divided("evaluate.ode.lanes", ode.ode.lanes)
            name, draws = "evaluate.num_importance", self.num_importance
            check_draws_fit(name, model, draws, STARTED_TOGETHER)
            ode.ode.check(model)
        if bound is not None:
            bound.bound.check(model)

    def check_reading(self, run: Run) -> None:
        """Refuses images that are not there, or not the model's, and a place that is taken."""
        root = run.workdir / "evaluations"
        evaluated = processes.by_leader(root.exists)
        # Other images training has.
        if evaluated or self.data is not None or self.split == "validation":
            _check_place(root, f"[0-9]*-{self.name_of(self.find_images(run))}")

    def find_images(self, run: Run) -> JudgedImages:
        """Those that will be judged."""
        return find_images(run, self.split, self.num_images, source=self.data)

    def name_of(self, images: JudgedImages) -> str:
        """The folder's, without the step: what differs from the default is in it."""
        if self.name is not None:
            return self.name
        parts = ["bound"]
        if self.ode is not None:
            parts = [f"{figures.short_name(self.ode.dequantization)}-k{self.num_importance}"]
            parts += [] if self.bound is not None else ["ode"]
        if self.data is not None:
            parts.append(re.sub(r"[^\w.-]", "_", images.identity.name))
        if self.split != "test":
            parts.append(self.split)
        if len(images) < images.split_size:
            parts.append(f"first{len(images)}")
        return "-".join(parts)

    def _judged(
        self, folder: Path, loaded: LoadedModel, images: JudgedImages, console: Console
    ) -> dict[str, Any]:
        """Both passes, and what they have found: "ode", "bound" and times of `result.json`."""
        start, levels, ode, bound = time.perf_counter(), images.levels, *self.passes()
        passes = [each for each in (bound, ode) if each is not None]
        columns = [column for each in (ode, bound) if each for column in each.columns]
        console.print("compiling …")
        with (
            PerExampleTable.of_all(columns, folder / "per_example.csv") as table,
            CompilationTime() as compiling,
        ):
            count = max([fill(table, each, loaded, levels, console) for each in passes])
            seconds = time.perf_counter() - start - compiling.seconds
            table.join()
        found, dimensions = table.columns_of(len(images)), loaded.model.pixels.dimensions
        earlier = None if count else processes.by_leader(lambda: earlier_result(folder))
        judged = {"ode": None, "bound": bound and figures.bound_figures(found, dimensions)}
        if self.ode is not None and ode is not None:
            again = levels[: self.error_images]
            judged["ode"] = {
                "dequantization": figures.short_name(self.ode.dequantization),
                "num_importance": self.num_importance,
                "combination": figures.short_name(self.ode.combination),
                **figures.ode_figures(ode, self.quirks, found, dimensions),
                **(
                    kept_parts(earlier, len(again))
                    or figures.parts_figures(ode, found, loaded, again, console)
                ),
            }
        return {
            **judged,
            "seconds": time.perf_counter() - start,
            "images_per_second": count / seconds if count else None,
            "compilation_seconds": compiling.seconds,
            **kept_times(earlier),
        }

    def passes(self) -> tuple[OdePass | None, BoundPass | None]:
        """With the published program's quirks worked in."""
        ode = bound = None
        if self.ode is not None:
            ode = OdePass(*self.quirks.likelihood(self.ode, self.num_importance), self.seed)
        if self.bound is not None:
            bound = BoundPass(self.quirks.bound(self.bound), stream_key(self.seed, "bound"))
        return ode, bound


def _check_place(root: Path, name: str) -> None:
    """Together: refuses something else where an evaluation's folder and files are to be."""
    files = (".lock", "settings.json", "per_example.csv", "result.json")
    names = tuple(f"{name}/{file}" for file in files)
    processes.by_leader(lambda: check_kinds(root, folders=(name,), files=names))
