"""A comparison as people read it: the rows of a table."""

from collections.abc import Iterator
from typing import Any

from diffusion_ode.evaluation.judged_images import SPLITS
from diffusion_ode.reporting.quantities import with_error

_SIDES = ("this", "other")


def in_words(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows of a comparison as it is written: (what, figure) each."""
    kind = "" if result["figure"] == "ode" else ", variational bound"
    labels = _labels(result)
    for side in _SIDES:
        yield labels[side], f"{result[side]['bpd']:.4f} bpd{kind}, {result[side]['evaluation']}"
        yield "", f"of {result[side]['workdir']}"
    pairing = "paired" if result["paired"] else "unpaired"
    difference = with_error(result["difference"], result["standard_error"])
    yield f"difference, {pairing}", f"{difference} bpd"
    low, high = result["confidence_interval_95"]
    yield "95 % interval", f"{low:+.4f} to {high:+.4f} bpd"
    yield "verdict", _verdict(result)
    count, share = result["num_images"], result["images_better_here"]
    if share is None:
        yield "images", f"{count} here and {result['other']['num_images']} there"
    else:
        yield "images", f"{count}, of which {100 * share:.0f} % are coded shorter here"
    yield from result["warnings"]
    for why, number in result["left_out"].items():
        yield "", f"{number} left out: {why}"


def _labels(result: dict[str, Any]) -> dict[str, str]:
    """What is compared: two models, or images of two kinds."""
    if result["paired"]:
        return {"this": "this model", "other": "other model"}
    data = {side: result[side]["data"] for side in _SIDES}
    if data["this"]["fingerprint"] == data["other"]["fingerprint"]:
        return {side: f"{SPLITS[data[side]['split']]} images" for side in _SIDES}
    return {side: f"images of {data[side]['name']}" for side in _SIDES}


def _verdict(result: dict[str, Any]) -> str:
    low, high = result["confidence_interval_95"]
    if low <= 0.0 <= high:
        return "no difference that these images could show"
    if result["paired"]:
        return f"{'this' if high < 0.0 else 'the other'} model codes the data shorter"
    return f"{_labels(result)['this' if high < 0.0 else 'other']} are coded shorter"
