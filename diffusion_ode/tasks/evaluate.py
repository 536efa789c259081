"""The task that measures likelihoods."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode import units
from diffusion_ode.checking import check_count
from diffusion_ode.diffusion.model import Model
from diffusion_ode.distributed import processes
from diffusion_ode.distributed.interruption import Interruption
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.earlier_result import (
    earlier_result,
    has_parts,
    keep_parts,
    keep_times,
)
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.evaluation.result import (
    Rows,
    code_length,
    code_lengths,
    figures_of,
    in_words,
    short_name,
)
from diffusion_ode.evaluation.uncertainty import Uncertainty, uncertainty
from diffusion_ode.inference.draw_combination import check_draws
from diffusion_ode.inference.likelihood import ImageLikelihood, OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.randomness import image_keys, stream_key
from diffusion_ode.reporting.compilation_time import CompilationTime
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.progress import Progress
from diffusion_ode.reporting.running_mean import RunningMean
from diffusion_ode.solvers.solver import order_of
from diffusion_ode.tasks.evaluation_settings import EvaluationSettings
from diffusion_ode.tasks.loaded_model import LoadedModel, load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.training.data_identity import DataIdentity, check_data
from diffusion_ode.workdir.lock import workdir_lock
from diffusion_ode.workdir.result_files import PerExampleFile, PerExampleRows, write_json

# Images whose bound is computed at once, just ahead of their solves; rounded up to the devices.
_BOUND_BATCH = 128
_COLUMNS = ("log_likelihood", "nfe", "converged", "reconstruction", "prior", "diffusion")
# What is found of an image, as processes send it to each other.
_ROW = np.dtype([("index", np.int64), *((column, np.float64) for column in _COLUMNS)])
_LIKELIHOOD = np.dtype([(name, _ROW[name]) for name in ImageLikelihood._fields])


@dataclass(frozen=True)
class Evaluate:
    """How the likelihood of the test set is measured.

    Args:
      num_images: the first n of the test set; None for all.
      num_importance: K, dequantised draws per image.
      ode: the likelihood by the probability-flow ODE.
      bound: the variational bound.
      error_images: of the first so many images the standard error's parts are found, by solving
        them again with one thing changed at a time; 0 for none.
      quirks: of the published program, to reproduce its figures; all off.
      name: of this evaluation's folder; None names it after dequantisation and K.
      seed: of everything drawn.
    """

    num_images: int | None = None
    num_importance: int = 1
    ode: OdeLikelihood = field(default_factory=OdeLikelihood)
    bound: VariationalBound = field(default_factory=VariationalBound)
    error_images: int = 32
    quirks: ReferenceQuirks = field(default_factory=ReferenceQuirks)
    name: str | None = None
    seed: int = 0

    def __post_init__(self):
        if self.num_images is not None:
            check_count(
                "evaluate.num_images", self.num_images, "give a number of images, or None for all"
            )
        check_count("evaluate.num_importance", self.num_importance, "give draws per image")
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            raise UserError(
                f"evaluate.name = {self.name!r} is no name of a folder: use letters, digits, '.',"
                " '-' and '_'."
            )
        check_draws(self.ode.dequantization, self.ode.combination, self.num_importance)
        if self.error_images < 0:
            raise UserError(
                f"evaluate.error_images = {self.error_images} is negative: give a number of"
                " images, or 0 for no parts of the standard error."
            )
        if self.quirks.single_probe:
            raise UserError(
                "evaluate.quirks.single_probe is True, but it is a quirk of training: set"
                " train.objective.residual=single_probe() instead."
            )

    def run(self, run: Run) -> TaskResult:
        """Evaluates every test image once, and writes `result.json` and `per_example.csv`."""
        with (
            Console(silent=not processes.is_leader()) as console,
            Interruption(console.print, run.recorder.end) as interruption,
            interruption.immediately(lambda: None),
            contextlib.ExitStack() as stack,
        ):
            loaded = load_model(run, console.print)
            images = run.load_data()
            identity = DataIdentity(images.manifest.name, images.fingerprint)
            check_data(loaded.facts, identity, f"checkpoint {loaded.step}", console.print)
            test = images.test[: self.num_images]
            run.experiment.model.pixels.check(test)
            self.ode.check(run.experiment.model)
            loaded.lanes_sharding(self.ode.lanes)  # refused now, not when all is compiled
            folder = run.workdir / "evaluations" / f"{loaded.step}-{self._name()}"
            settings = EvaluationSettings(folder, run, loaded, str(identity))
            another_name = "evaluate under a name of its own by --set evaluate.name=…"
            stack.enter_context(workdir_lock(folder, run.command_line, another_name))
            processes.by_leader(settings.check)
            run.begin(data_fingerprint=images.fingerprint, checkpoint=loaded.step)
            console.log_to(run.log_path)
            processes.by_leader(settings.write)

            console.print(f"evaluating step {loaded.step} on {len(test)} test images of {identity}")
            run.say_changes("evaluate", console.print)
            judge = self._with_quirks()
            console.print("compiling …")
            start = time.perf_counter()
            with (
                _rows_so_far(folder / "per_example.csv") as table,
                CompilationTime() as compiling,
            ):
                missing = [index for index in range(len(test)) if index not in table.done]
                judge._complete(table, missing, test, run.experiment.model, loaded, console)
                seconds = time.perf_counter() - start - compiling.seconds
                rows = table.table()
            rows = {name: column[rows["index"] < len(test)] for name, column in rows.items()}
            earlier = None
            if not missing:
                earlier = processes.by_leader(lambda: earlier_result(folder, len(test)))
            error_images = min(self.error_images, len(test))
            if earlier is None or not has_parts(earlier, error_images):
                parts = judge._uncertainty(rows, test, run.experiment.model, loaded, console)
                figures = figures_of(rows, parts, run.experiment.model.pixels.dimensions)
            else:
                figures = figures_of(rows, None, run.experiment.model.pixels.dimensions)
                keep_parts(figures["ode"], earlier)
            result = {
                "experiment": run.name,
                "command": run.command_line,
                "data": {
                    "name": images.manifest.name,
                    "split": "test",
                    "fingerprint": images.fingerprint,
                    "num_images": len(test),
                    "shape": list(images.manifest.shape),
                },
                "ode": {
                    "dequantization": short_name(self.ode.dequantization),
                    "num_importance": self.num_importance,
                    "combination": short_name(self.ode.combination),
                    "error_images": error_images,
                    "trace": self.ode.divergence.in_words,
                    **code_length(judge.ode, judge.num_importance, self.quirks, rows),
                    **figures["ode"],
                },
                "bound": figures["bound"],
                "quirks": [name for name, on in dataclasses.asdict(self.quirks).items() if on],
                "checkpoint": {"step": loaded.step, "digest": loaded.facts["digest"]},
                "config": run.document,
                "devices": sorted({device.device_kind for device in jax.devices()}),
                "seconds": time.perf_counter() - start,
                "images_per_second": len(missing) / seconds if missing else None,
                "compilation_seconds": compiling.seconds,
            }
            if earlier is not None:
                keep_times(result, earlier)
            if processes.is_leader():
                write_json(folder / "result.json", result)
        return TaskResult(
            rows=in_words(result),
            written=[
                ("results", folder / "result.json"),
                ("per image", folder / "per_example.csv"),
            ],
            next_flags=["--task=sample"],
        )

    def _with_quirks(self) -> "Evaluate":
        """What this evaluation comes to when the published program's quirks are worked in."""
        ode, draws = self.quirks.likelihood(self.ode, self.num_importance)
        return dataclasses.replace(
            self,
            ode=ode,
            num_importance=draws,
            bound=self.quirks.bound(self.bound),
            quirks=ReferenceQuirks(),
        )

    def _name(self) -> str:
        if self.name is not None:
            return self.name
        return f"{short_name(self.ode.dequantization)}-k{self.num_importance}"

    def _complete(
        self,
        table: PerExampleRows,
        missing: list[int],
        test: np.ndarray,
        model: Model,
        loaded: LoadedModel,
        console: Console,
    ) -> None:
        """Evaluates the images that the table has no row for yet."""
        progress = Progress(console, "image", len(test))
        dimensions = model.pixels.dimensions
        running = RunningMean(code_lengths(table.table(), dimensions))
        bounds: dict[int, np.ndarray] = {}
        likelihoods = self.ode.of_images(
            model,
            loaded.parameters,
            self._with_bounds(processes.mine(missing), test, model, loaded, bounds),
            stream_key(self.seed, "noise"),
            probe_key=stream_key(self.seed, "probes"),
            num_importance=self.num_importance,
            sharding=loaded.lanes_sharding(self.ode.lanes),
            expected=len(processes.mine(range(len(test)))),
        )
        mine = ((*image, *bounds.pop(image.index)) for image in likelihoods)
        for row in processes.gathered(mine, _ROW):
            table.append([row["index"]], **{column: [row[column]] for column in _COLUMNS})
            if row["converged"]:
                running.add(units.bits_per_dimension(-row["log_likelihood"], dimensions))
            progress.update(len(table.done), *running.in_words())
        progress.end()

    def _with_bounds(
        self,
        missing: list[int],
        test,
        model: Model,
        loaded: LoadedModel,
        bounds: dict[int, np.ndarray],
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The missing images, after their bound has been put into `bounds`."""
        key = stream_key(self.seed, "bound")
        devices = loaded.placement.mesh.size
        batch = devices * -(-_BOUND_BATCH // devices)
        for first in range(0, len(missing), batch):
            chunk = missing[first : first + batch]
            # Padded, so that the last chunk needs no compilation of its own.
            padded = np.asarray([*chunk, *[chunk[-1]] * (batch - len(chunk))])
            keys, levels = jax.device_put(
                (image_keys(key, jnp.asarray(padded)), test[padded].astype(np.int32)),
                loaded.placement.batch,
            )
            terms = np.asarray(self.bound.terms(model, loaded.parameters, levels, keys))
            for position, index in enumerate(chunk):
                bounds[index] = terms[:, position]
                yield index, np.asarray(test[index])

    def _uncertainty(
        self, rows: Rows, test: np.ndarray, model: Model, loaded: LoadedModel, console: Console
    ) -> Uncertainty:
        """The parts of the standard error, from solving a subset again."""
        noise, probes = stream_key(self.seed, "noise"), stream_key(self.seed, "probes")
        controller = self.ode.controller.tightened(0.1, order_of(self.ode.solver))
        tight = dataclasses.replace(self.ode, controller=controller)
        other_noise = stream_key(self.seed, "other noise")
        other_probes = stream_key(self.seed, "other probes")
        variations = {
            "other noise and probes": (self.ode, other_noise, other_probes),
            "other probes": (self.ode, noise, other_probes),
            "a tenth of the tolerance": (tight, noise, probes),
        }
        if self.ode.divergence.exact:
            del variations["other probes"]  # there are none
        count = min(self.error_images, len(test))
        converged = rows["converged"] > 0.0
        if not converged[rows["index"] < count].any():
            variations = {}  # there is nothing that they could be compared with
        scale = -model.pixels.dimensions  # a longer code is a smaller likelihood
        to_bpd = lambda nats: {k: units.bits_per_dimension(v, scale) for k, v in nats.items()}  # noqa: E731
        again: dict[str, dict[int, float]] = {}
        for what, (ode, noise_key, probe_key) in variations.items():
            progress = Progress(console, f"again with {what}, image", count)
            values: dict[int, float] = {}
            mine = ode.of_images(
                model,
                loaded.parameters,
                ((index, np.asarray(test[index])) for index in processes.mine(range(count))),
                noise_key,
                probe_key=probe_key,
                num_importance=self.num_importance,
                sharding=loaded.lanes_sharding(self.ode.lanes),
            )
            for image in processes.gathered(mine, _LIKELIHOOD):
                if image["converged"]:
                    values[int(image["index"])] = float(image["log_likelihood"])
                progress.update(len(values))
            progress.end()
            again[what] = to_bpd(values)
        mine = dict(zip(rows["index"][converged], rows["log_likelihood"][converged], strict=True))
        return uncertainty(
            to_bpd(mine),
            redrawn=again.get("other noise and probes", {}),
            redrawn_probes=None if self.ode.divergence.exact else again.get("other probes", {}),
            tightened=again.get("a tenth of the tolerance", {}),
        )


def _rows_so_far(path: Path) -> PerExampleRows:
    """The leader's file; in other processes its rows, which grow alike."""
    files = []

    def open_file() -> list[list[float]]:
        files.append(PerExampleFile(path, _COLUMNS))
        return files[0].rows()

    rows = processes.by_leader(open_file)
    return files[0] if files else PerExampleRows(_COLUMNS, rows)
