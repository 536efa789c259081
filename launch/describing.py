"""`--describe`: hypothesis, difference from the parent, costs; `=full`: the whole config too."""

import textwrap
from collections.abc import Iterator
from typing import Any

import fiddle as fdl

from diffusion_ode.checking import is_declared, takes
from diffusion_ode.configs import documents
from diffusion_ode.configs.documents import Document
from diffusion_ode.conformance import annotations_of
from diffusion_ode.evaluation.published_figures import figures_on
from diffusion_ode.suggestions import all_of
from experiments import registry
from experiments.config.building import build
from experiments.config.conversion import arguments_of, explicit, to_document
from experiments.registry import Entry
from experiments.verdicts import VERDICTS
from launch.screen import SCREEN_WIDTH

_INDENT = "  "


def description(
    entry: Entry,
    config: fdl.Config,
    device: str | None = None,
    topology: str | None = None,
    full: bool = False,
) -> Iterator[str]:
    """All there is to know of an experiment without its data and without running anything.

    Args:
      entry: the experiment.
      config: its config, with the user's settings applied.
      device: what its costs are shown for, `NAME` or `NAME:COUNT`; None for a few.
      topology: a TPU slice that the step is compiled for; None for no compiling.
      full: with every field of the config, and what it takes where that is declared.

    Yields:
      Lines, as they become known.

    Raises:
      UserError: the config cannot be built, or there is no such device or slice.
    """
    document = to_document(config)
    experiment = build(config)  # all of it, so that every field is checked
    # Refused before anything is shown; and a slice must come before JAX looks for devices.
    last = _costs(experiment, device, topology)
    first_of_last = next(last, None)
    yield from _title(entry, document)
    yield ""
    yield from _derivation(entry, document)
    yield ""
    yield from _departures(entry, document)
    yield f"parameters: {_parameter_count(experiment):,}"
    if first_of_last is not None:
        yield ""
        yield first_of_last
        yield from last
    yield ""
    if full:
        yield "config (lines as --set takes them; # tells what fields belong to and take)"
        yield from (_INDENT + line for line in _lines(explicit(config)))
    else:
        yield "the whole config, and what each field takes: --describe=full"


def _title(entry: Entry, document: Document) -> Iterator[str]:
    own = to_document(registry.configuration_of(entry))
    source, registered = (documents.rendered_at(each, "data.source") for each in (document, own))
    if source != registered:
        yield f"{entry.name}, on {source} in place of {registry.data_of(entry)}"
        yield "  Its hypothesis and what is published are of its own data."
        return
    yield f"{entry.name}, on {registry.data_of(entry)}"
    yield from textwrap.wrap(
        entry.hypothesis, SCREEN_WIDTH, initial_indent="  ", subsequent_indent="  "
    )
    if verdict := VERDICTS.get(entry.name):
        yield from textwrap.wrap(
            f"tried here, it {verdict.says}: {verdict.figure}",
            SCREEN_WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
        )
    if entry.source:
        yield f"  source: {entry.source}"
    if entry.published is not None:
        yield f"  published: {entry.published:g} bits per dimension"
    if relatives := figures_on(registry.images_of(entry)):
        yield "  on the same data, published (bits per dimension):"
        for relative in relatives:
            yield f"    {relative.bpd:.2f}  {relative.system}: {relative.source}"


def _lines(value: Any, path: str = "", takes: str = "") -> Iterator[str]:
    """A line per field; what fits on one line with all its fields has only that line."""
    document, width = to_document(value), SCREEN_WIDTH - len(_INDENT)
    whole = f"{path} = {documents.render(document)}"
    if not documents.has_fields(document) or (path and len(whole) <= width):
        inside = _declared(value) if documents.has_fields(document) else {}
        said = f"# {takes}" if takes and not inside else ""
        if said and len(whole) + 2 + len(said) <= width:
            whole, said = f"{whole}  {said}", ""
        yield whole
        names: dict[str, list[str]] = {}
        for name, what in inside.items():
            names.setdefault(what, []).append(name)
        yield from ([f"#   {said[2:]}"] if said else ())
        yield from (f"#   {all_of(several)}: {what}" for what, several in names.items())
        return
    if path:
        yield f"# {path}: {documents.render({**document, 'arguments': {}}).removesuffix('()')}"
    declared = _declared(value)
    for name, inner in arguments_of(value).items():
        yield from _lines(inner, f"{path}.{name}" if path else name, declared.get(name, ""))


def _declared(config: fdl.Config) -> dict[str, str]:
    """What the fields take that declare a range or choices."""
    annotations = annotations_of(fdl.get_callable(config))
    given = arguments_of(config)
    return {
        name: takes(found)
        for name, found in annotations.items()
        if name in given and is_declared(found)
    }


def _derivation(entry: Entry, document: Document) -> Iterator[str]:
    if entry.parent is None:
        base, title = entry, "it derives from no other experiment; set on the command line"
    else:
        base = registry.find(entry.parent)
        title = f"differs from its parent {entry.parent} in"
    changes = documents.difference(to_document(registry.configuration_of(base)), document)
    yield title + ("" if changes else ": nothing")
    for change in changes:
        yield from _shown(change)


def _shown(change: documents.Change) -> Iterator[str]:
    """On one line if it fits, else one for each side; what is longer still goes on below."""
    if len(line := f"{_INDENT}{change}") <= SCREEN_WIDTH:
        yield line
        return
    yield f"{_INDENT}{change.path}:"
    for sign, side in ((" ", change.before), ("→", change.after)):
        # After its name a call may go on below, as after each of its arguments.
        lines = textwrap.wrap(
            (side or "(absent)").replace("(", "( ", 1),
            SCREEN_WIDTH,
            initial_indent=f"{_INDENT}{sign} ",
            subsequent_indent=_INDENT * 4,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from (line.rstrip().replace("( ", "(", 1) for line in lines)


def _departures(entry: Entry, document: Document) -> Iterator[str]:
    """Values that are not its paper's; one that the user has set as published is none."""
    lines = []
    for path, (published, why) in registry.departures_of(entry).items():
        ours = documents.rendered_at(document, path)
        if ours is None or ours == repr(published):
            continue
        lines += textwrap.wrap(
            f"{path}: {ours.partition('(')[0]}, published {published}: {why}",
            SCREEN_WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT * 2,
            break_on_hyphens=False,
        )
    if lines:
        yield "differs from its paper or released configuration in"
        yield from [*lines, ""]


def _costs(experiment: Any, device: str | None, topology: str | None) -> Iterator[str]:
    from launch.costing import compiled_for, costs  # JAX, only now that it is needed

    return costs(experiment, device) if topology is None else compiled_for(experiment, topology)


def _parameter_count(experiment: Any) -> int:
    from diffusion_ode.diffusion.model import parameter_count

    return parameter_count(experiment.model)
