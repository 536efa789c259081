"""`--describe`: the whole config, what the parent's differs in, and the size of the network."""

import textwrap
from collections.abc import Iterator

import fiddle as fdl

from diffusion_ode import documents
from diffusion_ode.documents import Document
from experiments import registry
from experiments.conversion import to_document
from experiments.registry import Entry
from launch.building import build

_WIDTH = 80


def description(entry: Entry, config: fdl.Config) -> str:
    """All there is to know of an experiment without its data and without running anything.

    Args:
      entry: the experiment.
      config: its config, with the user's settings applied.

    Raises:
      UserError: the config cannot be built.
    """
    document = to_document(config)
    return "\n".join(
        [
            *_title(entry),
            "",
            "config (lines as --set takes them; inner fields too: model.network.features=64)",
            *(f"  {line}" for line in _lines(document)),
            "",
            *_derivation(entry, document),
            "",
            f"parameters: {_parameter_count(config):,}",
        ]
    )


def _title(entry: Entry) -> Iterator[str]:
    yield f"{entry.name}, on {registry.data_of(entry)}"
    yield from textwrap.wrap(entry.hypothesis, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    if entry.source:
        yield f"  source: {entry.source}"
    if entry.published is not None:
        yield f"  published: {entry.published:g} bits per dimension"


def _lines(document: Document, path: str = "") -> Iterator[str]:
    """A line per field; what fits on one line with all its fields has only that line."""
    whole = f"{path} = {documents.render(document)}"
    if not documents.is_call(document) or (path and len(whole) <= _WIDTH):
        yield whole
        return
    for name, value in document["arguments"].items():
        yield from _lines(value, f"{path}.{name}" if path else name)


def _derivation(entry: Entry, document: Document) -> Iterator[str]:
    if entry.parent is None:
        base, title = entry, "it derives from no other experiment; set on the command line"
    else:
        base = registry.find(entry.parent)
        title = f"differs from its parent {entry.parent} in"
    changes = documents.difference(to_document(registry.configuration_of(base)), document)
    yield title + ("" if changes else ": nothing")
    yield from (f"  {change}" for change in changes)


def _parameter_count(config: fdl.Config) -> int:
    from diffusion_ode.process.model import parameter_count  # JAX, only now that it is needed

    return parameter_count(build(config).model)  # all of it, so that every field is checked
