"""An evaluation's result as people read it: the rows of a table."""

from collections.abc import Iterator
from typing import Any

from diffusion_ode.evaluation.judged_images import SPLITS
from diffusion_ode.evaluation.published_figures import in_lines
from diffusion_ode.reporting.progress import duration
from diffusion_ode.reporting.quantities import counted, some_images, with_error

Row = tuple[str, str]

_COLUMN = 50  # characters, beside the labels

_SOURCES = {
    "images": "choice of images",
    "dequantization": "dequantisation",
    "probes": "trace's probes",
}


def in_words(result: dict[str, Any]) -> list[Row]:
    """The rows of a `result.json`: (what, figure) each."""
    data, ode, bound = result["data"], result["ode"], result["bound"]
    judged = counted(data["num_images"], f"{SPLITS[data['split']]} image")
    rows = [("data", f"{judged} of {data['name']}, {data['fingerprint']}")]
    if ode:
        rows += _ode(ode)
    if bound:
        rows.append(("variational bound (SDE)", _with_error(bound)))
        terms = (f"{name} {bound[name]:.4f}" for name in ("recon", "prior", "diffusion"))
        rows.append(("  of it", ", ".join(terms)))
    rows += _published(data)
    if ode:
        quantiles = ode["nfe_quantiles"]
        most = f"5 to 95 %: {quantiles['0.05']:.0f} to {quantiles['0.95']:.0f}"
        rows.append(("network evaluations", f"{ode['nfe_mean']:.0f} an image; {most}"))
    if result["images_per_second"]:
        compiling = f"after compiling for {duration(result['compilation_seconds'])}"
        rows.append(("speed", f"{result['images_per_second']:.3g} images/s, {compiling}"))
    if result["quirks"]:
        rows.append(("NO CODE LENGTHS", f"published quirks are on: {', '.join(result['quirks'])}"))
    if ode:
        rows += _warnings(ode)
    return rows


def _published(data: dict[str, Any]) -> Iterator[Row]:
    """Where this stands among others, who all judge the whole test split of the same data."""
    if data["split"] == "test" and data["num_images"] == data["split_images"]:
        for number, line in enumerate(in_lines(data["name"], _COLUMN)):
            yield ("", line) if number else ("on the same data", f"published: {line}")


def _ode(ode: dict[str, Any]) -> Iterator[Row]:
    """Its figure, what the standard error consists of, and how far off the solver is."""
    label = f"ODE, {ode['dequantization'].replace('_', ' ')}, K = {ode['num_importance']}"
    if not ode["num_images"]:
        yield label, "unknown: no image's solve converged"
    else:
        yield label, f"{_with_error(ode)}, {counted(ode['num_images'], 'image')}, {ode['trace']}"
    label = "  standard error, from"
    for name, part in ode["standard_error_parts"].items():
        if part:
            yield label, f"{_SOURCES[name]} {_part_in_words(part)}"
            label = ""
    solver = ode["solver_error"]
    if solver is not None:
        error = solver["standard_error"]
        mean = f"{solver['mean']:+.5f}" + ("" if error is None else f" ± {error:.5f}")
        yield "  error of the solver", f"{mean} bpd, from {counted(solver['num_images'], 'image')};"
        yield "", f"of a single image {solver['rms']:.4f} (rms)"
    elif ode["error_images"] and ode["num_images"]:
        none = f"unknown: none of {counted(ode['error_images'], 'image')} converged"
        yield "  error of the solver", none
        yield "", "at a tenth of the tolerance"


def _warnings(ode: dict[str, Any]) -> Iterator[Row]:
    if ode["biased_by_probes"]:
        yield "NO CODE LENGTH", "K > 1 and an estimated trace bias it low: set"
        yield "", "evaluate.ode.divergence=exact_trace() for one"
    if ode["not_converged"]:
        yield "NOT CONVERGED", some_images(ode["not_converged"])
        yield "", "left out of the ODE's mean, which biases it; result.json names all of them"
        yield "", "raise evaluate.ode.controller.max_steps, or its tolerances"


def _part_in_words(part: dict[str, Any]) -> str:
    if part["value"] is None:
        return f"not resolved by {counted(part['num_images'], 'image')}"
    return with_error(part["value"], part["standard_error"])


def _with_error(figure: dict[str, Any]) -> str:
    if figure["standard_error"] is None:
        return f"{figure['bpd']:.4f} bpd"
    return f"{with_error(figure['bpd'], figure['standard_error'])} bpd"
