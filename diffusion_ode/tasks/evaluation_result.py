"""What an evaluation has found: as `result.json`, and in plain words."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from diffusion_ode import units
from diffusion_ode.errors import UserError
from diffusion_ode.inference.uncertainty import Uncertainty, standard_error
from diffusion_ode.reporting.progress import duration
from diffusion_ode.reporting.result_table import with_error

_QUANTILES = (0.05, 0.5, 0.95)  # of the network evaluations
_BOUND_TERMS = {"recon": "reconstruction", "prior": "prior", "diffusion": "diffusion"}

Rows = Mapping[str, np.ndarray]
"""The table of results by column; [n] each."""


def figures_of(rows: Rows, parts: Uncertainty, dimensions: int) -> dict[str, dict[str, Any]]:
    """The figures of `result.json`, under "ode" and "bound", in bits per dimension.

    Args:
      rows: of `per_example.csv`.
      parts: of the ODE figure's standard error.
      dimensions: N.

    Raises:
      UserError: no image's solve converged, or an image's bound is not finite.
    """
    bpd, error = _mean(code_lengths(rows, dimensions))
    terms = {
        name: units.bits_per_dimension(rows[column], dimensions)
        for name, column in _BOUND_TERMS.items()
    }
    bound, bound_error = _mean(_finite(np.sum(list(terms.values()), axis=0), rows["index"]))
    nfe = rows["nfe"]
    return {
        "ode": {
            "bpd": bpd,
            "standard_error": _if_finite(error),
            "standard_error_parts": {
                "images": parts.images,
                "dequantization": parts.dequantization,
                "probes": parts.probes,
            },
            "solver_error": parts.solver,
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


def code_lengths(rows: Rows, dimensions: int) -> np.ndarray:
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


def _finite(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The values, unless one of them is no number: such a figure must not be reported."""
    strange = index[~np.isfinite(values)]
    if len(strange):
        raise UserError(
            f"The variational bound of test image {strange[0]} (and {len(strange) - 1} more) is not"
            " finite: the parameters are damaged or diverged, so evaluate another --checkpoint."
        )
    return values


def _if_finite(error: float) -> float | None:
    """A single image has no spread: JSON says null."""
    return error if math.isfinite(error) else None


def in_words(result: dict[str, Any]) -> list[tuple[str, str]]:
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
        rows.append(
            (
                "speed",
                f"{result['images_per_second']:.3g} images/s, after compiling for"
                f" {duration(result['compilation_seconds'])}",
            )
        )
    if result["quirks"]:
        rows.append(("NO CODE LENGTHS", f"published quirks are on: {', '.join(result['quirks'])}"))
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


def short_name(dequantization: object) -> str:
    """TruncatedNormalDequantization() → truncated_normal."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(dequantization).__name__).lower()
    return words.removesuffix("_dequantization")
