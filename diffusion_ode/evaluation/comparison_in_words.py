"""A comparison as its file and its table say it."""

from collections.abc import Iterator
from typing import Any

from diffusion_ode.evaluation.comparison import Comparison, changed_settings
from diffusion_ode.reporting.quantities import with_error

# What may differ, but puts the solver's error or the probes' into the difference: fields of `ode`.
_SOLVING = ("solver", "controller", "variable", "divergence")


def result_of(found: Comparison) -> dict[str, Any]:
    """The file."""
    sides = {
        name: {
            "workdir": str(evaluated.folder.parents[1]),
            "evaluation": evaluated.folder.name,
            "split": evaluated.result["data"]["split"],
            "bpd": mean,
            "num_images": count,
        }
        for name, evaluated, mean, count in zip(
            ("this", "other"), (found.here, found.there), found.means, found.counts, strict=True
        )
    }
    return {
        "data": found.here.result["data"],
        "figure": found.figure,
        "paired": found.paired,
        **sides,
        "difference": found.difference,
        "standard_error": found.error,
        "confidence_interval_95": found.interval,
        "num_images": found.counts[0],
        "left_out": found.left_out,
        "images_better_here": found.shorter,
        "code_lengths": not list(_no_code_lengths(found)),
    }


def in_words(found: Comparison) -> Iterator[tuple[str, str]]:
    """The rows of the table: (what, figure)."""
    what = "" if found.figure == "ode" else ", variational bound"
    for label, evaluated, mean in zip(
        _labels(found), (found.here, found.there), found.means, strict=True
    ):
        yield label, f"{mean:.4f} bpd{what}, {evaluated.folder.name}"
        yield "", f"of {evaluated.folder.parents[1]}"
    pairing = "paired" if found.paired else "unpaired"
    yield f"difference, {pairing}", f"{with_error(found.difference, found.error)} bpd"
    low, high = found.interval
    yield "95 % interval", f"{low:+.4f} to {high:+.4f} bpd"
    yield "verdict", _verdict(found)
    if found.paired:
        share = f"{100 * (found.shorter or 0.0):.0f} % are coded shorter here"
        yield "images", f"{found.counts[0]}, of which {share}"
    else:
        yield "images", f"{found.counts[0]} here and {found.counts[1]} there"
    yield from _no_code_lengths(found)
    yield from _solved_otherwise(found)
    for why, count in found.left_out.items():
        yield "", f"{count} left out: {why}"


def _labels(found: Comparison) -> tuple[str, str]:
    """What is compared: two models, or two kinds of images."""
    if found.paired:
        return "this model", "other model"
    ours, theirs = (side.result["data"] for side in (found.here, found.there))
    if ours["fingerprint"] == theirs["fingerprint"]:
        return f"{ours['split']} images", f"{theirs['split']} images"
    return f"images of {ours['name']}", f"images of {theirs['name']}"


def _verdict(found: Comparison) -> str:
    this, other = _labels(found)
    low, high = found.interval
    if low <= 0.0 <= high:
        return "no difference that these images could show"
    if found.paired:
        return f"{'this' if high < 0.0 else 'the other'} model codes the data shorter"
    return f"{this if high < 0.0 else other} are coded shorter"


def _no_code_lengths(found: Comparison) -> Iterator[tuple[str, str]]:
    """A warning where a figure is none, which its evaluation has said already."""
    for whose, evaluated in zip(_labels(found), (found.here, found.there), strict=True):
        figure = evaluated.result[found.figure]
        if figure.get("code_length") is False:
            yield "NO CODE LENGTH", f"{whose}: {figure.get('no_code_length_because')}"
        elif found.figure == "bound" and evaluated.result.get("quirks"):
            yield "NO CODE LENGTH", f"{whose}: published quirks are on"


def _solved_otherwise(found: Comparison) -> Iterator[tuple[str, str]]:
    """A warning where the ODEs were not solved alike: then the solver's error is in the verdict."""
    changes = changed_settings(found.here, found.there)
    changed = {tuple(change.path.split(".")[:3]) for change in changes}
    fields = [name for name in _SOLVING if ("evaluate", "ode", name) in changed]
    if found.figure == "ode" and fields:
        verb = "differs" if len(fields) == 1 else "differ"
        yield "SOLVED OTHERWISE", f"{', '.join(fields)} {verb}: that error is in it, too"
    if found.paired and ("evaluate", "seed") in changed:
        yield "DRAWN OTHERWISE", "evaluate.seed differs: noise and probes are not paired"
