"""How certain a mean likelihood is, and what its uncertainty is made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of a mean over n images, in the unit of the values.

    `total` is what one reports: the spread of the values over √n. Its square is the sum of the
    squares of the three parts below it; `solver` is no part of it, being the same for all images.

    Attributes:
      total: of the mean.
      images: what stays if nothing else were drawn: that other test images might have been chosen.
      dequantization: from the noise within a level's bin.
      probes: from the estimate of the trace.
      solver: mean difference to solves at a tenth of the tolerance, with its sign.
    """

    total: float
    images: float | None = None
    dequantization: float | None = None
    probes: float | None = None
    solver: float | None = None


Values = Mapping[int, float]
"""A value for each image, by its index."""


def uncertainty(
    values: Values,
    redrawn_dequantization: Values,
    redrawn_probes: Values,
    tightened: Values,
) -> Uncertainty:
    """Parts of the standard error of the mean of `values`.

    The last three are of a subset of the images, done again with just one thing changed. Two
    independent draws x, x′ differ by E(x − x′)² = 2 Var, so half the mean square is the variance
    that a draw brings to one image; over n images it brings Var/n to the mean.

    Args:
      values: of all images.
      redrawn_dequantization: with other noise within the bins.
      redrawn_probes: with other probes.
      tightened: at a tenth of the tolerance.
    """
    everything = np.asarray(list(values.values()))
    total = standard_error(everything)

    def part(again: Values) -> float | None:
        differences = _differences(values, again)
        if len(differences) == 0:
            return None
        return math.sqrt(0.5 * float(np.mean(np.square(differences))) / len(everything))

    dequantization, probes = part(redrawn_dequantization), part(redrawn_probes)
    drawn = (dequantization or 0.0) ** 2 + (probes or 0.0) ** 2
    solver = _differences(values, tightened)
    return Uncertainty(
        total=total,
        images=math.sqrt(max(total**2 - drawn, 0.0)) if math.isfinite(total) else None,
        dequantization=dequantization,
        probes=probes,
        solver=float(np.mean(solver)) if len(solver) else None,
    )


def standard_error(values: np.ndarray) -> float:
    """s/√n; infinite for a single value."""
    if len(values) < 2:
        return math.inf
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _differences(values: Values, again: Values) -> np.ndarray:
    """Values − again, where both are."""
    return np.asarray([values[index] - again[index] for index in again if index in values])
