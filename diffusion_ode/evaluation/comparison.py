"""The difference between two evaluations, of two models or of one on different images."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from diffusion_ode.configs import documents
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.evaluated import Evaluated
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.reporting.quantities import counted

NO_CODE_LENGTH = "NO CODE LENGTH"
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


# What may differ, but puts the solver's error or the probes' into the difference: fields of `ode`.
_SOLVING = ("solver", "controller", "variable", "divergence")


class Means(NamedTuple):
    """Bits per dimension of both sides.

    Attributes:
      values: the means, over the images that count.
      counts: of these images.
      error: of the difference.
      freedom: its degrees of freedom.
      left_out: how many other images there are, by reason.
      shorter: the share of images that are coded shorter here; None if they are not the same ones.
    """

    values: tuple[float, float]
    counts: tuple[int, int]
    error: float
    freedom: float
    left_out: dict[str, int]
    shorter: float | None = None


def compare(here: Evaluated, there: Evaluated) -> dict[str, Any]:
    """The difference in bits per dimension, as it is written to `comparisons/`.

    It is paired where both are of the same images. Means of different images are compared only if
    the same model judged them: then the difference is that between the images, such as the gap from
    training to test.

    Raises:
      UserError: the evaluations are not of one kind, or of different models and different images.
    """
    figure = _common_figure(here, there)
    _check_same_kind(here, there, figure)
    paired = here.is_of_same_images(there)
    if not paired and not here.is_of_same_model(there):
        both = (f"{each.folder} was evaluated on {_images(each)}" for each in (here, there))
        raise UserError(
            f"{' and '.join(both)}: figures of different models on different data are never"
            " compared; evaluate both on the same."
        )
    means = (paired_means if paired else _unpaired)(here.bits(figure), there.bits(figure))
    if min(means.counts) < 2:
        raise UserError(
            f"{here.folder} and {there.folder} have {counted(min(means.counts), 'converged image')}"
            " to compare: evaluate both on more."
        )
    difference = means.values[0] - means.values[1]
    warnings = [*_no_code_lengths(here, there, figure), *_made_otherwise(here, there, figure)]
    sides = {
        name: {
            "workdir": str(evaluated.folder.parents[1]),
            "evaluation": evaluated.folder.name,
            "data": evaluated.result["data"],
            "bpd": mean,
            "num_images": count,
        }
        for name, evaluated, mean, count in zip(
            ("this", "other"), (here, there), means.values, means.counts, strict=True
        )
    }
    return {
        "data": here.result["data"],
        "figure": figure,
        "paired": paired,
        **sides,
        "difference": difference,
        "standard_error": means.error,
        "confidence_interval_95": _interval(difference, means.error, means.freedom),
        "num_images": means.counts[0],
        "left_out": {why: count for why, count in means.left_out.items() if count},
        "images_better_here": means.shorter,
        "code_lengths": not any(what == NO_CODE_LENGTH for what, _ in warnings),
        "warnings": warnings,
    }


def check_same_ranking(here: Evaluated, there: Evaluated) -> None:
    """Refuses two figures that one table must not rank.

    Raises:
      UserError: they are of different images, or not of one kind.
    """
    if not here.is_of_same_images(there):
        both = (f"{each.folder} was evaluated on {_images(each)}" for each in (here, there))
        raise UserError(f"{' and '.join(both)}: such figures are never ranked; report each alone.")
    counts = [each.result["data"].get("num_images") for each in (here, there)]
    if counts[0] != counts[1]:
        raise UserError(
            f"{here.folder} has judged {counts[0]} images and {there.folder} {counts[1]}: such"
            " figures are never ranked; evaluate both on the same."
        )
    _check_same_kind(here, there, _common_figure(here, there))


def paired_means(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Means:
    """The images' own spread, which is most of a mean's error, cancels in the difference."""
    both = sorted(ours.keys() & theirs.keys())
    lost = [{index for index in both if math.isnan(bits[index])} for bits in (ours, theirs)]
    common = [index for index in both if index not in lost[0] | lost[1]]
    left_out = {
        "evaluated here only": len(ours.keys() - theirs.keys()),
        "evaluated there only": len(theirs.keys() - ours.keys()),
        "not converged here": len(lost[0] - lost[1]),
        "not converged there": len(lost[1] - lost[0]),
        "not converged in both": len(lost[0] & lost[1]),
    }
    mine, others = (np.asarray([bits[index] for index in common]) for bits in (ours, theirs))
    count = len(common)
    values, error = (_mean(mine), _mean(others)), standard_error(mine - others)
    return Means(values, (count, count), error, count - 1, left_out, _mean(mine < others))


def _unpaired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Means:
    """Two independent means; the degrees of freedom are Welch's (1947)."""
    everything = [np.asarray(list(bits.values())) for bits in (ours, theirs)]
    here, there = (bits[np.isfinite(bits)] for bits in everything)
    left_out = {
        "not converged here": len(ours) - len(here),
        "not converged there": len(theirs) - len(there),
    }
    errors = [standard_error(bits) for bits in (here, there)]
    error = math.hypot(*errors)
    parts = sum(e**4 / max(len(b) - 1, 1) for e, b in zip(errors, (here, there), strict=True))
    freedom = error**4 / parts if parts else 1.0
    return Means((_mean(here), _mean(there)), (len(here), len(there)), error, freedom, left_out)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """By Student's t: the standard error is itself an estimate."""
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, 0.5 + 0.5 * _CONFIDENCE)) * error
    return mean - reach, mean + reach


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
    for change in _changed_settings(here, there):
        if figure == "bound" and change.path.startswith(_BOUND_KIND):
            ours, others = (f"{change.path} = {side}" for side in (change.before, change.after))
            _refuse_unlike(ours, others, here, there)
    quirks = [", ".join(sorted(result.get("quirks", []))) or "none" for result in (mine, theirs)]
    if quirks[0] != quirks[1]:
        _refuse_unlike(f"the quirks {quirks[0]}", f"the quirks {quirks[1]}", here, there)


def _changed_settings(here: Evaluated, there: Evaluated) -> list[documents.Change]:
    """How the configs differ under which the two were made."""
    return documents.difference(here.result.get("config"), there.result.get("config"))


def _no_code_lengths(here: Evaluated, there: Evaluated, figure: str) -> Iterator[tuple[str, str]]:
    """A warning where a figure is none, which its evaluation has said already."""
    for evaluated in (here, there):
        found = evaluated.result[figure]
        if found.get("code_length") is False:
            yield NO_CODE_LENGTH, f"{evaluated.folder}: {found.get('no_code_length_because')}"
        elif figure == "bound" and evaluated.result.get("quirks"):
            yield NO_CODE_LENGTH, f"{evaluated.folder}: published quirks are on"


def _made_otherwise(here: Evaluated, there: Evaluated, figure: str) -> Iterator[tuple[str, str]]:
    """A warning where not only models or images differ, but also how they were judged."""
    changed = {tuple(c.path.split(".")[:3]) for c in _changed_settings(here, there)}
    fields = [name for name in _SOLVING if ("evaluate", "ode", name) in changed]
    if figure == "ode" and fields:
        verb = "differs" if len(fields) == 1 else "differ"
        yield (
            "SOLVED OTHERWISE",
            f"{', '.join(fields)} {verb}: the solver's error is in the difference, too",
        )
    if ("evaluate", "seed") in changed:
        yield "DRAWN OTHERWISE", "evaluate.seed differs: noise and probes are not paired"


def _refuse_unlike(ours: str, others: str, here: Evaluated, there: Evaluated):
    raise UserError(
        f"{here.folder} was evaluated with {ours} and {there.folder} with {others}: such figures"
        " are never compared; evaluate both alike."
    )
