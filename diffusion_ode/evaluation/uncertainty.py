"""How certain a mean likelihood is, and what its uncertainty is made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_RESOLVED = 2.0  # standard errors above zero: what is nearer to it may be nothing


@dataclass(frozen=True)
class Part:
    """A part of a mean's standard error, estimated from few images and so itself uncertain.

    Attributes:
      value: the part; None if it cannot be told from zero, its square being within two standard
        errors of zero.
      standard_error: of `value`, or None.
      num_images: that were drawn again to find it.
    """

    value: float | None
    standard_error: float | None
    num_images: int


@dataclass(frozen=True)
class SolverError:
    """Difference to solves of the same draws at a tenth of the tolerance, over some images.

    Attributes:
      mean: by which the figure is off on the average, with its sign.
      standard_error: of `mean`; None for a single image.
      rms: of an image's difference, signs aside.
      num_images: over how many.
    """

    mean: float
    standard_error: float | None
    rms: float
    num_images: int


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of a mean over n images, in the unit of the values.

    `total` is what one reports: the spread of the values over √n. Its square is the sum of those of
    the three parts below it, as far as they are resolved; a part is None if nothing was drawn again
    to find it. `solver` is no further part: what differs from image to image is in the spread
    already, and its mean is an error of the figure which no number of images takes away.

    Attributes:
      total: of the mean.
      images: what stays if nothing else were drawn: that other test images might have been chosen,
        with the solver's error of each.
      dequantization: from the noise within a level's bin, with the same probes.
      probes: from the estimate of the trace: what an exact trace would take away. That a probe's
        error depends on the noise is in it.
      solver: the solver's error.
    """

    total: float
    images: Part | None = None
    dequantization: Part | None = None
    probes: Part | None = None
    solver: SolverError | None = None


Values = Mapping[int, float]
"""A value for each image, by its index."""


@dataclass(frozen=True)
class _Variance:
    """Estimated variance of a mean, its standard error (of the variance), and from how many."""

    value: float
    standard_error: float
    num_images: int

    def part(self) -> Part:
        # A negated comparison, so that an unknown error (NaN) resolves nothing.
        if not self.value >= _RESOLVED * self.standard_error or self.value <= 0.0:
            return Part(None, None, self.num_images)
        root = math.sqrt(self.value)
        return Part(root, self.standard_error / (2.0 * root), self.num_images)


def uncertainty(
    values: Values,
    redrawn: Values,
    redrawn_probes: Values | None,
    tightened: Values,
    at_tolerance: Values | None = None,
) -> Uncertainty:
    """Parts of the standard error of the mean of `values`.

    The others are of a subset of the images, done again with something changed. Two independent
    draws x, x′ differ by E(x − x′)² = 2 Var, so half the mean square is the variance that drawing
    brings to one image; over n images it brings Var/n to the mean. The images' own part is what is
    left of the whole, so its error is that of both.

    Args:
      values: of all images.
      redrawn: with other noise within the bins, and other probes.
      redrawn_probes: with other probes only; None if the trace is exact, and has none.
      tightened: at a tenth of the tolerance.
      at_tolerance: what `tightened` is compared with; None for the values.
    """
    everything = np.asarray(list(values.values()))
    total = standard_error(everything)
    drawn = _of_draws(values, redrawn)
    probes = None if redrawn_probes is None else _of_draws(values, redrawn_probes)
    images, dequantization = None, drawn
    if redrawn_probes is not None:
        dequantization = _of_draws(values, redrawn, besides=redrawn_probes)
    if drawn and math.isfinite(total):
        images = _what_is_left(everything, drawn)
    return Uncertainty(
        total=total,
        images=images and images.part(),
        dequantization=dequantization and dequantization.part(),
        probes=probes and probes.part(),
        solver=_solver_error(
            _differences(values if at_tolerance is None else at_tolerance, tightened)
        ),
    )


def _of_draws(values: Values, again: Values, besides: Values | None = None) -> _Variance | None:
    """What drawing brings to the mean's variance; None if nothing was drawn again.

    Args:
      values, again: two draws.
      besides: with a part of it drawn again, whose variance is taken off.
    """
    common = [i for i in again if i in values and (besides is None or i in besides)]
    if not common:
        return None
    of_one_image = _half_squares(values, again, common)
    if besides is not None:
        of_one_image = of_one_image - _half_squares(values, besides, common)
    error = standard_error(of_one_image) / len(values)
    return _Variance(float(np.mean(of_one_image)) / len(values), error, len(common))


def _half_squares(values: Values, again: Values, indices: list[int]) -> np.ndarray:
    return 0.5 * np.square([values[index] - again[index] for index in indices])


def _what_is_left(everything: np.ndarray, drawn: _Variance) -> _Variance:
    n = len(everything)
    squares = np.square(everything - np.mean(everything))
    variance = float(np.sum(squares)) / (n - 1) / n
    error = math.hypot(standard_error(squares) / n, drawn.standard_error)
    return _Variance(variance - drawn.value, error, drawn.num_images)


def _solver_error(differences: np.ndarray) -> SolverError | None:
    if len(differences) == 0:
        return None
    error = standard_error(differences)
    return SolverError(
        mean=float(np.mean(differences)),
        standard_error=error if math.isfinite(error) else None,
        rms=math.sqrt(float(np.mean(np.square(differences)))),
        num_images=len(differences),
    )


def standard_error(values: np.ndarray) -> float:
    """s/√n; infinite for a single value."""
    if len(values) < 2:
        return math.inf
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _differences(values: Values, again: Values) -> np.ndarray:
    """Values − again, where both are."""
    return np.asarray([values[index] - again[index] for index in again if index in values])
