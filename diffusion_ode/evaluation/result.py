"""What an evaluation has found: as `result.json`, and in plain words."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion_ode import units
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.evaluation.uncertainty import Uncertainty, standard_error
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.reporting.progress import duration
from diffusion_ode.reporting.result_table import some_images, with_error

_QUANTILES = (0.05, 0.5, 0.95)  # of the network evaluations
_BOUND_TERMS = {"recon": "reconstruction", "prior": "prior", "diffusion": "diffusion"}

Rows = Mapping[str, np.ndarray]
"""The table of results by column; [n] each."""


def figures_of(rows: Rows, parts: Uncertainty | None, dimensions: int) -> dict[str, dict[str, Any]]:
    """The figures of `result.json`, under "ode" and "bound", in bits per dimension.

    Args:
      rows: of `per_example.csv`.
      parts: of the ODE figure's standard error; one that is not resolved has the value None; None
        if they were not looked for.
      dimensions: N.

    Raises:
      UserError: an image's bound is not finite.
    """
    bpd, error = _mean(code_lengths(rows, dimensions))
    parts = parts or Uncertainty(error)
    terms = {
        name: units.bits_per_dimension(rows[column], dimensions)
        for name, column in _BOUND_TERMS.items()
    }
    bound, bound_error = _mean(_finite(np.sum(list(terms.values()), axis=0), rows["index"]))
    nfe = rows["nfe"]
    return {
        "ode": {
            "bpd": _if_finite(bpd),
            "standard_error": _if_finite(error),
            "num_images": int(np.sum(rows["converged"] > 0.0)),
            "standard_error_parts": {
                name: part and dataclasses.asdict(part)
                for name, part in (
                    ("images", parts.images),
                    ("dequantization", parts.dequantization),
                    ("probes", parts.probes),
                )
            },
            "solver_error": parts.solver and dataclasses.asdict(parts.solver),
            "nfe_mean": float(nfe.mean()),
            "nfe_max": float(nfe.max()),
            "nfe_quantiles": {str(q): float(np.quantile(nfe, q)) for q in _QUANTILES},
            "not_converged": rows["index"][~(rows["converged"] > 0.0)].tolist(),
        },
        "bound": {
            "bpd": bound,
            "standard_error": _if_finite(bound_error),
            **{name: float(term.mean()) for name, term in terms.items()},
        },
    }


def code_length(
    ode: OdeLikelihood, num_importance: int, quirks: ReferenceQuirks, rows: Rows
) -> dict[str, bool | str | None]:
    """Whether the ODE's figure is a code length, and if not, why; for "ode" of `result.json`.

    Args:
      ode, num_importance: as they are with the quirks worked in.
      quirks: that are on.
      rows: of `per_example.csv`.
    """
    lost = int(np.sum(~(rows["converged"] > 0.0)))
    biased = not ode.gives_code_lengths(num_importance)
    reasons = []
    if any(dataclasses.asdict(quirks).values()):
        reasons.append("published quirks are on")
    if biased:
        reasons.append(
            f"K = {num_importance} > 1 draws are weighted by an estimated trace"
            f" ({ode.divergence.in_words}), whose errors bias the bits per dimension low: take the"
            " exact trace, K = 1 or averaged draws"
        )
    if lost:
        reasons.append(
            f"{lost} of {len(rows['converged'])} images did not converge, and a mean without them"
            " is biased"
        )
    return {
        "code_length": not reasons,
        "no_code_length_because": "; ".join(reasons) or None,
        "biased_by_probes": biased,
    }


def code_lengths(rows: Rows, dimensions: int) -> np.ndarray:
    """−log P per dimension in bits, of the images whose solves converged: others have none."""
    return units.bits_per_dimension(-rows["log_likelihood"][rows["converged"] > 0.0], dimensions)


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error over images; the mean of none is not a number."""
    return float(np.mean(values)) if len(values) else math.nan, standard_error(values)


def _finite(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The values, unless one of them is no number: such a figure must not be reported."""
    strange = index[~np.isfinite(values)]
    if len(strange):
        raise UserError(
            f"The variational bound of test image {strange[0]} (and {len(strange) - 1} more) is not"
            " finite: the parameters are damaged or diverged, so evaluate another --checkpoint."
        )
    return values


def _if_finite(figure: float) -> float | None:
    """A single image has no spread, and none at all no mean: JSON says null."""
    return figure if math.isfinite(figure) else None


def in_words(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The result in plain words."""
    ode, bound, data = result["ode"], result["bound"], result["data"]
    rows = [
        ("data", f"{data['num_images']} test images of {data['name']}, {data['fingerprint']}"),
        (
            f"ODE, {ode['dequantization'].replace('_', ' ')}, K = {ode['num_importance']}",
            f"{_with_error(ode)}, {_counted(ode['num_images'])}, {ode['trace']}"
            if ode["num_images"]
            else "unknown: no image's solve converged",
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
        rows.append(
            (
                "speed",
                f"{result['images_per_second']:.3g} images/s, after compiling for"
                f" {duration(result['compilation_seconds'])}",
            )
        )
    if result["quirks"]:
        rows.append(("NO CODE LENGTHS", f"published quirks are on: {', '.join(result['quirks'])}"))
    if ode["biased_by_probes"]:
        rows += [
            ("NO CODE LENGTH", "K > 1 and an estimated trace bias it low: set"),
            ("", "evaluate.ode.divergence=exact_trace() for one"),
        ]
    if ode["not_converged"]:
        rows += [
            ("NOT CONVERGED", some_images(ode["not_converged"])),
            ("", "not in the ODE's mean, and missing ones bias it;"),
            ("", "result.json names all"),
            ("", "raise evaluate.ode.controller.max_steps, or its"),
            ("", "tolerances"),
        ]
    return rows


def _error_rows(ode: dict[str, Any]) -> list[tuple[str, str]]:
    """What the standard error consists of, and how far off the solver is."""
    names = {"images": "test images", "dequantization": "dequantisation", "probes": "probes"}
    parts = ode["standard_error_parts"]
    said = [f"{names[name]} {_part_in_words(part)}" for name, part in parts.items() if part]
    labels = ["  its ± is from", *[""] * len(said)]
    rows = list(zip(labels, said, strict=False))
    if ode["solver_error"] is None:
        if ode["error_images"] and ode["num_images"]:
            rows += [
                ("  solver's error", f"unknown: of {_counted(ode['error_images'])} none converged"),
                ("", "at a tenth of the tolerance"),
            ]
    else:
        solver = ode["solver_error"]
        error = solver["standard_error"]
        mean = f"{solver['mean']:+.5f}" + ("" if error is None else f" ± {error:.5f}")
        rows.append(("  solver's error", f"{mean} bpd, found by {_counted(solver['num_images'])};"))
        rows.append(("", f"of a single image {solver['rms']:.4f} (rms)"))
    return rows


def _part_in_words(part: dict[str, Any]) -> str:
    if part["value"] is None:
        return f"not resolved by {_counted(part['num_images'])}"
    return with_error(part["value"], part["standard_error"])


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _with_error(figure: dict[str, Any]) -> str:
    if figure["standard_error"] is None:
        return f"{figure['bpd']:.4f} bpd"
    return f"{with_error(figure['bpd'], figure['standard_error'])} bpd"


def short_name(dequantization: object) -> str:
    """TruncatedNormalDequantization() → truncated_normal."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(dequantization).__name__).lower()
    return words.removesuffix("_dequantization")
