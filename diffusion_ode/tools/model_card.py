"""A model card: what an exported model is, was made from, reaches, and which command made it."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diffusion_ode.checkpoints.digest import named_leaves
from diffusion_ode.checkpoints.stored import Restored
from diffusion_ode.configs import documents
from diffusion_ode.errors import printable
from diffusion_ode.evaluation.judged_images import SPLITS
from diffusion_ode.reporting.quantities import counted, with_error
from diffusion_ode.training.data_identity import DataIdentity
from diffusion_ode.workdir.provenance import launches_of
from diffusion_ode.workdir.result_files import read_json

_HEAD = """\
---
library_name: diffusion_ode
pipeline_tag: unconditional-image-generation
tags: [jax, diffusion, likelihood]
---
"""


def model_card(run: Path, restored: Restored, modules: Sequence[str] = ()) -> str:
    """The card as Markdown, with the head that model hubs read.

    Args:
      run: the workdir, of which evaluations and launches are read.
      restored: the checkpoint that is exported, with `ema` in its state.
      modules: from outside the program, without which it does not load.
    """
    launches = [launch for launch in launches_of(run) if _is_whole(launch)]
    name = next((x["experiment"] for x in launches if x.get("experiment")), run.resolve().name)
    parts = [
        _HEAD + f"# {name}, step {restored.step}",
        "A diffusion ODE: a model of images that draws them and tells their likelihood."
        " `model.safetensors` holds the exponential average of its parameters, `config.json`"
        " everything that it was trained and judged with.",
        _table(("what", "value"), _facts(restored)),
        "## Figures",
        _figures(run, restored),
        "## How it was made",
        _made(launches, restored),
        "## How to load it",
        "With diffusion_ode, by `pip install .` in a checkout of the code above, and safetensors:",
        "```\npython load.py\n```",
    ]
    if modules:
        named = ", ".join(f"`{module}`" for module in modules)
        parts.append(f"Its config calls code from outside the program, {named}: read it first.")
    return "\n\n".join(parts) + "\n"


def _facts(restored: Restored) -> Iterator[tuple[str, str]]:
    identity = DataIdentity.of_facts(restored.facts)
    yield "data", "unknown" if identity is None else _data(identity.name, identity.fingerprint)
    sizes = [math.prod(leaf.shape) for leaf in named_leaves(restored.state).values()]
    yield "parameters", f"{sum(sizes):,}"
    for piece in ("path", "schedule", "parameterization", "network", "pixels"):
        rendered = documents.rendered_at(restored.document, f"model.{piece}")
        if rendered is not None:
            yield piece, f"`{rendered}`"
    yield "code", _code(restored.facts.get("code"))
    yield "digest of the checkpoint", f"`{restored.facts['digest']}`"


def _figures(run: Path, restored: Restored) -> str:
    """A line for each evaluation of this very checkpoint."""
    rows = []
    for path in sorted(run.glob("evaluations/*/result.json")):
        try:
            result = read_json(path)
            if result["checkpoint"]["digest"] == restored.facts["digest"]:
                rows.append(_figure(path.parent.name, result))
        except Exception:  # damaged, or of another program
            continue
    if not rows:
        return "This checkpoint has not been evaluated."
    head = ("evaluation", "of", "ODE", "evaluations of the network", "bound (SDE)")
    return f"Bits per dimension ± standard error.\n\n{_table(head, rows)}"


def _figure(name: str, result: dict[str, Any]) -> tuple[str, ...]:
    data, ode, bound = result["data"], result["ode"], result["bound"]
    judged = counted(data["num_images"], f"{SPLITS[data['split']]} image")
    if data["num_images"] < data["split_images"]:
        judged = f"the first {judged} (of {data['split_images']})"
    quirks = f"; published quirks: {', '.join(result['quirks'])}" if result["quirks"] else ""
    return (
        f"`{name}`",
        f"{judged} of {_data(data['name'], data['fingerprint'])}{quirks}",
        _bits(ode) + ("" if not ode or ode["code_length"] else ", no code length"),
        f"{ode['nfe_mean']:.0f}" if ode else "—",
        _bits(bound),
    )


def _bits(figure: dict[str, Any] | None) -> str:
    if not figure or figure["bpd"] is None:
        return "—"
    if figure["standard_error"] is None:
        return f"{figure['bpd']:.4f}"
    return with_error(figure["bpd"], figure["standard_error"])


def _made(launches: list[dict[str, Any]], restored: Restored) -> str:
    """The commands of the training's launches, each once, with what they ran on."""
    origin = restored.facts.get("imported_from")
    if origin is not None:
        return f"Imported from a published checkpoint, `{printable(Path(origin).name)}`."
    known = [x for x in launches if x.get("task") == "train" and x.get("command")]
    # Those that began where it already was have added nothing to it.
    known = [x for x in known if (x.get("step") or 0) < restored.step] or known
    if not known:
        return "The command is not known: the workdir has no record of its launches."
    lines = ["```", *dict.fromkeys(x["command"] for x in known), "```", ""]
    last = known[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    devices = last.get("devices") or ["unknown"]
    on = ", ".join(f"{devices.count(kind)} × {kind}" for kind in dict.fromkeys(devices))
    lines += [f"Devices: {on}. Seed: {last['seed']}. Versions: {versions}."]
    return "\n".join(lines)


def _code(code: dict[str, Any] | None) -> str:
    if not code:
        return "unknown"
    if not code.get("revision"):
        return f"{code.get('version')}, revision unknown"
    changed = ", with changes that are not in it" if code.get("modified") else ""
    return f"{code.get('version')}, revision `{code['revision']}`{changed}"


def _data(name: str, fingerprint: str | None) -> str:
    return name if fingerprint is None else f"{name}, fingerprint `{fingerprint}`"


def _is_whole(launch: dict[str, Any]) -> bool:
    """Whether all that is told of it is of its kind."""
    match launch:
        case {"command": str(), "seed": int() | None, "versions": dict(versions)}:
            devices, step = launch.get("devices") or [], launch.get("step") or 0
            words = [launch.get("experiment") or "", *versions.values()]
            kinds = isinstance(step, int) and isinstance(devices, list)
            return kinds and all(isinstance(word, str) for word in (*words, *devices))
    return False


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in line)} |"
        for line in lines
    )
