"""The task that measures likelihoods."""

import functools
import math
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode import documents, units
from diffusion_ode.errors import UserError
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.process.model import Model
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.progress import Progress
from diffusion_ode.reporting.result_files import PerExampleFile, write_json
from diffusion_ode.reporting.result_table import with_error
from diffusion_ode.tasks.outcome import Outcome
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.trained import Trained, trained
from diffusion_ode.training.beginning import check_fingerprint
from diffusion_ode.training.interruption import Interruption
from diffusion_ode.training.randomness import stream_key

_BOUND_BATCH = 128  # images whose bound is computed at once, just ahead of their solves
_COLUMNS = ("log_likelihood", "nfe", "converged", "reconstruction", "prior", "diffusion")


@dataclass(frozen=True)
class Evaluate:
    """How the likelihood of the test set is measured.

    Args:
      num_images: the first n of the test set; None for all.
      num_importance: K, dequantised draws per image.
      ode: the likelihood by the probability-flow ODE.
      bound: the variational bound.
      name: of this evaluation's folder; None names it after dequantisation and K.
      seed: of everything drawn.
    """

    num_images: int | None = None
    num_importance: int = 1
    ode: OdeLikelihood = field(default_factory=OdeLikelihood)
    bound: VariationalBound = field(default_factory=VariationalBound)
    name: str | None = None
    seed: int = 0

    def __post_init__(self):
        if self.num_images is not None and self.num_images < 1:
            raise UserError(
                f"evaluate.num_images = {self.num_images} is below 1: give a number of images, or"
                " None for all."
            )
        if self.num_importance < 1:
            raise UserError(
                f"evaluate.num_importance = {self.num_importance} is below 1: K counts the draws"
                " per image."
            )

    def run(self, run: Run) -> Outcome:
        """Evaluates every test image once, and writes `result.json` and `per_example.csv`."""
        with (
            Console(run.workdir / "log.txt") as console,
            Interruption(console.print) as interruption,
            interruption.immediately(lambda: None),
        ):
            source = trained(run, console.print)
            images = run.experiment.data.load(run.data_dir)
            check_fingerprint(source.facts, images.fingerprint, f"checkpoint {source.step}")
            test = images.test[: self.num_images]
            run.experiment.model.pixels.check(test)
            folder = run.workdir / "evaluations" / f"{source.step}-{self._name()}"
            _check_settings(folder, run, source)

            console.print(
                f"evaluating step {source.step} on {len(test)} test images of"
                f" {images.manifest.name} ({images.fingerprint})"
            )
            start = time.perf_counter()
            with PerExampleFile(folder / "per_example.csv", _COLUMNS) as table:
                before = len(table.done)
                self._complete(table, test, run.experiment.model, source, console)
                result = self._result(table, images, run, source)
            result["seconds"] = time.perf_counter() - start
            result["images_per_second"] = (len(test) - before) / result["seconds"]
            write_json(folder / "result.json", result)
        return Outcome(
            rows=_rows(result),
            written=[
                ("results", folder / "result.json"),
                ("per image", folder / "per_example.csv"),
            ],
            next_flags=["--task=sample"],
        )

    def _name(self) -> str:
        if self.name is not None:
            return self.name
        return f"{_snake(type(self.ode.dequantization).__name__)}-k{self.num_importance}"

    def _complete(
        self, table: PerExampleFile, test: np.ndarray, model: Model, source: Trained, console
    ) -> None:
        """Evaluates the images that the table has no row for yet."""
        missing = [index for index in range(len(test)) if index not in table.done]
        progress = Progress(console, "image", len(test))
        progress.update(len(table.done))
        bounds: dict[int, np.ndarray] = {}
        likelihoods = self.ode.of_images(
            model,
            source.parameters,
            self._with_bounds(missing, test, model, source, bounds),
            stream_key(self.seed, "likelihood"),
            num_importance=self.num_importance,
            sharding=source.lanes_sharding(self.ode.lanes),
        )
        for image in likelihoods:
            reconstruction, prior, diffusion = bounds.pop(image.index)
            table.append(
                [image.index],
                log_likelihood=[image.log_likelihood],
                nfe=[image.nfe],
                converged=[float(image.converged)],
                reconstruction=[reconstruction],
                prior=[prior],
                diffusion=[diffusion],
            )
            mean, error = _mean(_bpd(table.table(), model.pixels.dimensions))
            progress.update(len(table.done), f"{with_error(mean, error, 3)} bpd")
        progress.end()

    def _with_bounds(
        self, missing: list[int], test, model: Model, source: Trained, bounds: dict[int, np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The missing images, after their bound has been put into `bounds`."""
        key = stream_key(self.seed, "bound")
        for first in range(0, len(missing), _BOUND_BATCH):
            chunk = missing[first : first + _BOUND_BATCH]
            # Padded, so that the last chunk needs no compilation of its own.
            padded = np.asarray([*chunk, *[chunk[-1]] * (_BOUND_BATCH - len(chunk))])
            keys = _keys(key, jnp.asarray(padded))
            levels = jnp.asarray(test[padded], jnp.int32)
            terms = np.asarray(self.bound.terms(model, source.parameters, levels, keys))
            for position, index in enumerate(chunk):
                bounds[index] = terms[:, position]
                yield index, np.asarray(test[index])

    def _result(self, table: PerExampleFile, images, run: Run, source: Trained) -> dict[str, Any]:
        """What `result.json` says, but for the time."""
        rows = {name: column[: self.num_images] for name, column in table.table().items()}
        dimensions = run.experiment.model.pixels.dimensions
        bpd, error = _mean(_bpd(rows, dimensions))
        parts = {
            name: units.bits_per_dimension(rows[column], dimensions)
            for name, column in (
                ("recon", "reconstruction"),
                ("prior", "prior"),
                ("diffusion", "diffusion"),
            )
        }
        bound_bpd, bound_error = _mean(sum(parts.values()))
        converged = rows["converged"] > 0.0
        nfe = rows["nfe"]
        return {
            "experiment": run.name,
            "command": shlex.join(["python", *run.command]),
            "data": {
                "name": images.manifest.name,
                "split": "test",
                "fingerprint": images.fingerprint,
                "num_images": len(rows["index"]),
            },
            "ode": {
                "bpd": bpd,
                "standard_error": error,
                "dequantization": _snake(type(self.ode.dequantization).__name__),
                "num_importance": self.num_importance,
                "nfe_mean": float(nfe.mean()),
                "nfe_max": float(nfe.max()),
                "not_converged": rows["index"][~converged].tolist(),
            },
            "bound": {
                "bpd": bound_bpd,
                "standard_error": bound_error,
                **{name: float(part.mean()) for name, part in parts.items()},
            },
            "checkpoint": {"step": source.step, "digest": source.facts["digest"]},
            "devices": sorted({device.device_kind for device in jax.devices()}),
        }


@functools.partial(jax.jit)
def _keys(key, indices):
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def _bpd(rows: dict[str, np.ndarray], dimensions: int) -> np.ndarray:
    """−log P per dimension in bits, of the images whose solves converged: others have none."""
    return units.bits_per_dimension(-rows["log_likelihood"][rows["converged"] > 0.0], dimensions)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error over images; NaN without any, ∞ for the error of one."""
    if len(values) == 0:
        return math.nan, math.nan
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(np.mean(values)), float(error)


def _check_settings(folder: Path, run: Run, source: Trained) -> None:
    """An evaluation goes on only under the settings it was begun with."""
    path = folder / "settings.json"
    evaluate = dict(run.document["arguments"]["evaluate"])
    # A longer prefix of the same test set is the same evaluation, gone further.
    evaluate["arguments"] = {k: v for k, v in evaluate["arguments"].items() if k != "num_images"}
    settings = {
        "dict": {
            "checkpoint": source.facts["digest"],
            "data": source.facts.get("data_fingerprint"),
            "evaluate": evaluate,
        }
    }
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        documents.write(settings, path)
        return
    before = documents.read(path)
    if before != settings:
        changes = documents.difference(before["dict"]["evaluate"], evaluate)
        what = "; ".join(map(str, changes)) or "another checkpoint or data set"
        raise UserError(
            f"{folder} holds an evaluation under other settings ({what}): give this one a name of"
            " its own by --set evaluate.name=…"
        )


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    ode, bound, data = result["ode"], result["bound"], result["data"]
    missing = len(ode["not_converged"])
    rows = [
        (
            "data",
            f"{data['num_images']} test images of {data['name']}, {data['fingerprint']}",
        ),
        (
            f"ODE, {ode['dequantization'].replace('_', ' ')}, K = {ode['num_importance']}",
            f"{with_error(ode['bpd'], ode['standard_error'])} bpd",
        ),
        (
            "variational bound (SDE)",
            f"{with_error(bound['bpd'], bound['standard_error'])} bpd",
        ),
        (
            "  of it",
            f"recon {bound['recon']:.4f}, prior {bound['prior']:.4f},"
            f" diffusion {bound['diffusion']:.4f}",
        ),
        ("network evaluations", f"mean {ode['nfe_mean']:.0f}, most {ode['nfe_max']:.0f}"),
        ("speed", f"{result['images_per_second']:.3g} images/s"),
    ]
    if missing:
        rows.append(
            ("NOT CONVERGED", f"{missing} images, which are not in the ODE's mean: see result.json")
        )
    return rows


def _snake(name: str) -> str:
    """TruncatedNormalDequantization → truncated_normal."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return words.removesuffix("_dequantization")
