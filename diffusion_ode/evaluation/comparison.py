"""The difference between two evaluations, of two models or of one on different images."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffusion_ode.configs import documents
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.evaluated import Evaluated
from diffusion_ode.evaluation.uncertainty import standard_error

_CONFIDENCE = 0.95
# What must be alike for two figures of the ODE to be of one kind: a key of "ode" in `result.json`,
# its name.
_KIND = {
    "dequantization": "dequantisation",
    "num_importance": "K =",
    "combination": "a combination of draws",
}
# The same for two bounds: fields of the config.
_BOUND_KIND = ("evaluate.bound.times", "evaluate.bound.ends")


@dataclass(frozen=True)
class Comparison:
    """This evaluation less the other, in bits per dimension.

    Attributes:
      here, there: the evaluations.
      figure: that is compared, "ode" or "bound".
      paired: whether image by image; otherwise the difference is of two means over different
        images, whose errors add up in squares.
      means: of here and there, over the images that count.
      counts: of these images.
      difference: of the means.
      error: its standard error.
      interval: that holds the difference with a probability of 95 %.
      left_out: how many other images there are, by reason.
      shorter: the share of pairs that are coded shorter here; None if not paired.
    """

    here: Evaluated
    there: Evaluated
    figure: str
    paired: bool
    means: tuple[float, float]
    counts: tuple[int, int]
    difference: float
    error: float
    interval: tuple[float, float]
    left_out: dict[str, int]
    shorter: float | None


def compare(here: Evaluated, there: Evaluated) -> Comparison:
    """The difference, paired where both are of the same images.

    Means of different images are compared only if the same model judged them: then the difference
    is that between the images, such as the gap from training to test.

    Raises:
      UserError: the evaluations are not of one kind, or of different models and different images.
    """
    figure = _common_figure(here, there)
    _check_same_kind(here, there, figure)
    if here.is_of_same_images(there):
        return _paired(here, there, figure)
    if not here.is_of_same_model(there):
        both = (f"{each.folder} was evaluated on {_images(each)}" for each in (here, there))
        raise UserError(
            f"{' and '.join(both)}: figures of different models on different data are never"
            " compared; evaluate both on the same."
        )
    return _unpaired(here, there, figure)


def _paired(here: Evaluated, there: Evaluated, figure: str) -> Comparison:
    """The images' own spread, which is most of a mean's error, cancels in the difference."""
    ours, theirs = here.bits(figure), there.bits(figure)
    both = sorted(ours.keys() & theirs.keys())
    lost = [{index for index in both if math.isnan(bits[index])} for bits in (ours, theirs)]
    common = [index for index in both if index not in lost[0] | lost[1]]
    _check_enough(len(common), here, there)
    left_out = {
        "evaluated here only": len(ours.keys() - theirs.keys()),
        "evaluated there only": len(theirs.keys() - ours.keys()),
        "not converged here": len(lost[0] - lost[1]),
        "not converged there": len(lost[1] - lost[0]),
        "not converged in both": len(lost[0] & lost[1]),
    }
    mine, others = (np.asarray([bits[i] for i in common]) for bits in (ours, theirs))
    estimate = _of_mean(mine - others)
    return Comparison(
        here,
        there,
        figure,
        paired=True,
        means=(float(np.mean(mine)), float(np.mean(others))),
        counts=(len(common), len(common)),
        difference=estimate.mean,
        error=estimate.error,
        interval=_interval(estimate.mean, estimate.error, estimate.freedom),
        left_out={why: count for why, count in left_out.items() if count},
        shorter=float(np.mean(mine < others)),
    )


def _unpaired(here: Evaluated, there: Evaluated, figure: str) -> Comparison:
    """Two independent means; the degrees of freedom are Welch's (1947)."""
    sides, left_out = [], {}
    for where, evaluated in (("here", here), ("there", there)):
        bits = np.asarray(list(evaluated.bits(figure).values()))
        sides.append(bits[np.isfinite(bits)])
        if lost := len(bits) - len(sides[-1]):
            left_out[f"not converged {where}"] = lost
    _check_enough(min(map(len, sides)), here, there)
    ours, theirs = map(_of_mean, sides)
    difference, error = ours.mean - theirs.mean, math.hypot(ours.error, theirs.error)
    parts = [each.error**4 / each.freedom for each in (ours, theirs)]
    freedom = error**4 / sum(parts) if error else min(ours.freedom, theirs.freedom)
    return Comparison(
        here,
        there,
        figure,
        paired=False,
        means=(ours.mean, theirs.mean),
        counts=(len(sides[0]), len(sides[1])),
        difference=difference,
        error=error,
        interval=_interval(difference, error, freedom),
        left_out=left_out,
        shorter=None,
    )


class _Mean(NamedTuple):
    mean: float
    error: float
    freedom: float


def _of_mean(values: np.ndarray) -> _Mean:
    return _Mean(float(np.mean(values)), standard_error(values), len(values) - 1)


def _interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """By Student's t: the standard error is itself an estimate."""
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, 0.5 + 0.5 * _CONFIDENCE)) * error
    return mean - reach, mean + reach


def _check_enough(count: int, here: Evaluated, there: Evaluated) -> None:
    if count < 2:
        raise UserError(
            f"{here.folder} and {there.folder} have {count} converged images to compare: evaluate"
            " both on more."
        )


def _images(evaluated: Evaluated) -> str:
    data = evaluated.result["data"]
    return f"{data['split']} images of {data['name']} ({data['fingerprint']})"


def _common_figure(here: Evaluated, there: Evaluated) -> str:
    for figure in ("ode", "bound"):
        if here.result.get(figure) and there.result.get(figure):
            return figure
    raise UserError(
        f"One of {here.folder} and {there.folder} has the bound alone, the other the ODE alone:"
        " such figures are never compared; evaluate both alike."
    )


def _check_same_kind(here: Evaluated, there: Evaluated, figure: str) -> None:
    """Figures of different kinds differ without any difference between the models."""
    mine, theirs = here.result, there.result
    for key, what in _KIND.items() if figure == "ode" else ():
        ours, others = (result["ode"].get(key, "unknown") for result in (mine, theirs))
        alone = key == "combination" and mine["ode"]["num_importance"] == 1  # nothing to combine
        if ours != others and not alone:
            _refuse_unlike(f"{what} {ours}", f"{what} {others}", here, there)
    for change in changed_settings(here, there):
        if figure == "bound" and change.path.startswith(_BOUND_KIND):
            ours, others = (f"{change.path} = {side}" for side in (change.before, change.after))
            _refuse_unlike(ours, others, here, there)
    quirks = [", ".join(sorted(result.get("quirks", []))) or "none" for result in (mine, theirs)]
    if quirks[0] != quirks[1]:
        _refuse_unlike(f"the quirks {quirks[0]}", f"the quirks {quirks[1]}", here, there)


def changed_settings(here: Evaluated, there: Evaluated) -> list[documents.Change]:
    """How the configs differ under which the two were made."""
    return documents.difference(here.result.get("config"), there.result.get("config"))


def _refuse_unlike(ours: str, others: str, here: Evaluated, there: Evaluated):
    raise UserError(
        f"{here.folder} was evaluated with {ours} and {there.folder} with {others}: such figures"
        " are never compared; evaluate both alike."
    )
