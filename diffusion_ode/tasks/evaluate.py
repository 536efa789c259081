"""The task that measures likelihoods."""

import dataclasses
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
from diffusion_ode.inference.draw_combination import check_draws
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.uncertainty import Uncertainty, standard_error, uncertainty
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
_QUANTILES = (0.05, 0.5, 0.95)  # of the network evaluations
_COLUMNS = ("log_likelihood", "nfe", "converged", "reconstruction", "prior", "diffusion")

Rows = dict[str, np.ndarray]
"""The table of results by column; [n] each."""


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
      name: of this evaluation's folder; None names it after dequantisation and K.
      seed: of everything drawn.
    """

    num_images: int | None = None
    num_importance: int = 1
    ode: OdeLikelihood = field(default_factory=OdeLikelihood)
    bound: VariationalBound = field(default_factory=VariationalBound)
    error_images: int = 32
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
        check_draws(self.ode.dequantization, self.ode.combination, self.num_importance)
        if self.error_images < 0:
            raise UserError(
                f"evaluate.error_images = {self.error_images} is negative: give a number of"
                " images, or 0 for no parts of the standard error."
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
                evaluated = len(test) - len(table.done)
                self._complete(table, test, run.experiment.model, source, console)
                seconds = time.perf_counter() - start
                rows = table.table()
            rows = {name: column[rows["index"] < len(test)] for name, column in rows.items()}
            parts = self._uncertainty(rows, test, run.experiment.model, source, console)
            result = self._result(rows, parts, images, run, source)
            result["seconds"] = time.perf_counter() - start
            result["images_per_second"] = evaluated / seconds
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

    def _uncertainty(
        self, rows: Rows, test: np.ndarray, model: Model, source: Trained, console: Console
    ) -> Uncertainty:
        """The parts of the standard error, from solving a subset again."""
        key = stream_key(self.seed, "likelihood")
        tight = dataclasses.replace(self.ode, controller=self.ode.controller.tightened(0.1))
        variations = {
            "other noise within the bins": (self.ode, stream_key(self.seed, "other noise"), key),
            "other probes": (self.ode, key, stream_key(self.seed, "other probes")),
            "a tenth of the tolerance": (tight, key, key),
        }
        count = min(self.error_images, len(test))
        again: list[dict[int, float]] = []
        for what, (ode, noise_key, probe_key) in variations.items():
            progress = Progress(console, f"again with {what}, image", count)
            values: dict[int, float] = {}
            for image in ode.of_images(
                model,
                source.parameters,
                ((index, np.asarray(test[index])) for index in range(count)),
                noise_key,
                probe_key=probe_key,
                num_importance=self.num_importance,
                sharding=source.lanes_sharding(self.ode.lanes),
            ):
                if image.converged:
                    values[image.index] = image.log_likelihood
                progress.update(len(values))
            progress.end()
            again.append(values)
        converged = rows["converged"] > 0.0
        mine = dict(zip(rows["index"][converged], rows["log_likelihood"][converged], strict=True))
        scale = -model.pixels.dimensions  # a longer code is a smaller likelihood
        to_bpd = lambda nats: {k: units.bits_per_dimension(v, scale) for k, v in nats.items()}  # noqa: E731
        return uncertainty(to_bpd(mine), *map(to_bpd, again))

    def _result(
        self, rows: Rows, parts: Uncertainty, images, run: Run, source: Trained
    ) -> dict[str, Any]:
        """What `result.json` says, but for the time."""
        dimensions = run.experiment.model.pixels.dimensions
        bpd, error = _mean(_bpd(rows, dimensions))
        terms = {
            name: units.bits_per_dimension(rows[column], dimensions)
            for name, column in (
                ("recon", "reconstruction"),
                ("prior", "prior"),
                ("diffusion", "diffusion"),
            )
        }
        bound_bpd, bound_error = _mean(np.sum(list(terms.values()), axis=0))
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
                "shape": list(images.manifest.shape),
            },
            "ode": {
                "bpd": bpd,
                "standard_error": _if_finite(error),
                "standard_error_parts": {
                    "images": parts.images,
                    "dequantization": parts.dequantization,
                    "probes": parts.probes,
                },
                "solver_error": parts.solver,
                "error_images": min(self.error_images, len(rows["index"])),
                "dequantization": _snake(type(self.ode.dequantization).__name__),
                "num_importance": self.num_importance,
                "nfe_mean": float(nfe.mean()),
                "nfe_max": float(nfe.max()),
                "nfe_quantiles": {str(q): float(np.quantile(nfe, q)) for q in _QUANTILES},
                "not_converged": rows["index"][~converged].tolist(),
            },
            "bound": {
                "bpd": bound_bpd,
                "standard_error": _if_finite(bound_error),
                **{name: float(part.mean()) for name, part in terms.items()},
            },
            "checkpoint": {"step": source.step, "digest": source.facts["digest"]},
            "devices": sorted({device.device_kind for device in jax.devices()}),
        }


@functools.partial(jax.jit)
def _keys(key, indices):
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def _bpd(rows: Rows, dimensions: int) -> np.ndarray:
    """−log P per dimension in bits, of the images whose solves converged: others have none."""
    return units.bits_per_dimension(-rows["log_likelihood"][rows["converged"] > 0.0], dimensions)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error over images.

    Raises:
      UserError: there is no value to take the mean of.
    """
    if len(values) == 0:
        raise UserError(
            "No image's solve converged, so there is no likelihood to report: raise"
            " evaluate.ode.controller.max_steps, or its tolerances."
        )
    return float(np.mean(values)), standard_error(values)


def _if_finite(error: float) -> float | None:
    """A single image has no spread: JSON says null."""
    return error if math.isfinite(error) else None


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
    """The result in plain words."""
    ode, bound, data = result["ode"], result["bound"], result["data"]
    rows = [
        ("data", f"{data['num_images']} test images of {data['name']}, {data['fingerprint']}"),
        (
            f"ODE, {ode['dequantization'].replace('_', ' ')}, K = {ode['num_importance']}",
            _with_error(ode),
        ),
        *_error_rows(ode),
        ("variational bound (SDE)", _with_error(bound)),
        (
            "  of it",
            f"recon {bound['recon']:.4f}, prior {bound['prior']:.4f},"
            f" diffusion {bound['diffusion']:.4f}",
        ),
        (
            "network evaluations",
            f"{ode['nfe_mean']:.0f} an image; 5 to 95 %:"
            f" {ode['nfe_quantiles']['0.05']:.0f} to {ode['nfe_quantiles']['0.95']:.0f}",
        ),
    ]
    if result["images_per_second"]:
        rows.append(("speed", f"{result['images_per_second']:.3g} images/s"))
    missing = len(ode["not_converged"])
    if missing:
        rows.append(
            ("NOT CONVERGED", f"{missing} images, which are not in the ODE's mean: see result.json")
        )
    return rows


def _error_rows(ode: dict[str, Any]) -> list[tuple[str, str]]:
    parts = {name: part for name, part in ode["standard_error_parts"].items() if part is not None}
    names = {"images": "test images", "dequantization": "dequantisation", "probes": "probes"}
    rows = []
    if len(parts) > 1 and "images" in parts:  # one image has no spread of its own
        rows.append(("  its ± is from", names["images"] + f" {parts['images']:.4f}"))
        rows += [("", f"{names[k]} {v:.4f}") for k, v in parts.items() if k != "images"]
    if ode["solver_error"] is not None:
        rows.append(("  solver's error", f"{ode['solver_error']:+.5f} bpd"))
    return rows


def _with_error(figure: dict[str, Any]) -> str:
    if figure["standard_error"] is None:
        return f"{figure['bpd']:.4f} bpd (of one image)"
    return f"{with_error(figure['bpd'], figure['standard_error'])} bpd"


def _snake(name: str) -> str:
    """TruncatedNormalDequantization → truncated_normal."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return words.removesuffix("_dequantization")
