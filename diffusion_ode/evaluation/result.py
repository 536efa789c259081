"""The figures that an evaluation has found, as they stand in `result.json`."""

import dataclasses
import math
import re
from typing import Any

import numpy as np

from diffusion_ode import units
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.evaluation.ode_pass import OdePass, error_parts
from diffusion_ode.evaluation.per_example import Columns
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.quantities import counted

_QUANTILES = (0.05, 0.5, 0.95)  # of the network evaluations
_BOUND_TERMS = {"recon": "reconstruction", "prior": "prior", "diffusion": "diffusion"}


def ode_figures(
    ode_pass: OdePass, quirks: ReferenceQuirks, found: Columns, dimensions: int
) -> dict[str, Any]:
    """The ODE's figures in bits per dimension: "ode" of `result.json`, without the error's parts.

    Args:
      ode_pass: that was made, with the quirks worked in.
      quirks: that are on.
      found: by it.
      dimensions: N.
    """
    converged = found["converged"] > 0.0
    bits = units.bits_per_dimension(ode_pass.nats(found)[converged], dimensions)
    nfe = found["nfe"]
    return {
        "trace": ode_pass.ode.divergence.in_words,
        **code_length(ode_pass, quirks, found),
        "bpd": float(np.mean(bits)) if len(bits) else None,
        "standard_error": _if_finite(standard_error(bits)),
        "num_images": int(np.sum(converged)),
        "nfe_mean": float(nfe.mean()),
        "nfe_max": float(nfe.max()),
        "nfe_quantiles": {str(q): float(np.quantile(nfe, q)) for q in _QUANTILES},
        "not_converged": found["index"][~converged].tolist(),
    }


def parts_figures(
    ode_pass: OdePass, found: Columns, loaded: LoadedModel, images: np.ndarray, console: Console
) -> dict[str, Any]:
    """Together: what the ODE's error is made of; a part that is not resolved has the value None.

    The arguments are those of `error_parts`.
    """
    parts = error_parts(ode_pass, found, loaded, images, console)
    named = {
        "images": parts.images,
        "dequantization": parts.dequantization,
        "probes": parts.probes,
    }
    return {
        "error_images": len(images),
        "standard_error_parts": {
            name: part and dataclasses.asdict(part) for name, part in named.items()
        },
        "solver_error": parts.solver and dataclasses.asdict(parts.solver),
    }


def bound_figures(found: Columns, dimensions: int) -> dict[str, Any]:
    """The bound's figures in bits per dimension: "bound" of `result.json`.

    Raises:
      UserError: an image's bound is not finite.
    """
    terms = {
        name: units.bits_per_dimension(found[column], dimensions)
        for name, column in _BOUND_TERMS.items()
    }
    bits = np.sum(list(terms.values()), axis=0)
    strange = found["index"][~np.isfinite(bits)]
    if len(strange):  # such a figure must not be reported
        raise UserError(
            f"The variational bound of image {strange[0]} (and {len(strange) - 1} more) is not"
            " finite: the parameters are damaged or diverged, so evaluate another --checkpoint."
        )
    return {
        "bpd": float(np.mean(bits)),
        "standard_error": _if_finite(standard_error(bits)),
        **{name: float(term.mean()) for name, term in terms.items()},
    }


def code_length(
    ode_pass: OdePass, quirks: ReferenceQuirks, found: Columns
) -> dict[str, bool | str | None]:
    """Whether the ODE's figure is a code length, and if not, why; for "ode" of `result.json`."""
    ode, num_importance = ode_pass.ode, ode_pass.num_importance
    lost = int(np.sum(~(found["converged"] > 0.0)))
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
            f"{lost} of {counted(len(found['converged']), 'image')} did not converge, and a mean"
            " without them is biased"
        )
    return {
        "code_length": not reasons,
        "no_code_length_because": "; ".join(reasons) or None,
        "biased_by_probes": biased,
    }


def _if_finite(figure: float) -> float | None:
    """A single image has no spread: JSON says null."""
    return figure if math.isfinite(figure) else None


def short_name(dequantization: object) -> str:
    """Turns TruncatedNormalDequantization() into truncated_normal."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(dequantization).__name__).lower()
    return words.removesuffix("_dequantization")
