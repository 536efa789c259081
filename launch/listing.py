"""`--list`: the registered experiments and tasks, on a screen 80 columns wide."""

import fnmatch
import textwrap

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.published_figures import in_lines
from diffusion_ode.suggestions import suggestion
from diffusion_ode.tasks import registry as tasks
from experiments import registry
from experiments.registry import Entry
from launch.screen import SCREEN_WIDTH

_INDENT = " " * 6


def listing(pattern: str = "") -> str:
    """The experiments and the tasks; with a pattern, those that match and what they are to show.

    Args:
      pattern: part of a name or data set, or with wildcards (`*_vp`) the whole of it; empty: all,
        the variants of an experiment below it.

    Raises:
      UserError: nothing matches.
    """
    found = [entry for entry in registry.entries() if _matches(entry, pattern)]
    if not found:
        names = [entry.name for entry in registry.entries()]
        raise UserError(f"No experiment matches {pattern!r}; {suggestion(pattern, names)}")
    shown = [*_experiments(found), *_published(found)] if pattern else _families(found)
    return "\n".join([*shown, "", *_tasks()])


def _published(found: list[Entry]) -> list[str]:
    """What others have reached on the data sets of these experiments, each by itself."""
    lines = []
    for data in dict.fromkeys(registry.images_of(entry) for entry in found):
        if figures := in_lines(data, SCREEN_WIDTH - len(_INDENT)):
            lines += [f"on {data}, published (bpd)", *(_INDENT + line for line in figures)]
    return ["", *lines] if lines else []


def _families(found: list[Entry]) -> list[str]:
    """Every experiment that derives from no other with its variants below; last those without."""
    families: dict[str, list[Entry]] = {}
    for entry in found:
        families.setdefault(registry.ancestry(entry)[0].name, []).append(entry)
    lines = ["experiments, their variants (published bits per dimension); more: --list=NAME"]
    alone = [_named(root) for root, *variants in families.values() if not variants]
    for root, *variants in families.values():
        if variants:
            lines.append(_named(root))
            names = ", ".join(map(_named, variants))
            lines += textwrap.wrap(
                names, SCREEN_WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT
            )
    return lines + textwrap.wrap(", ".join(alone), SCREEN_WIDTH)


def _named(entry: Entry) -> str:
    return entry.name if entry.published is None else f"{entry.name} ({entry.published:g})"


def _matches(entry: Entry, pattern: str) -> bool:
    names = (entry.name, registry.data_of(entry))
    if any(wildcard in pattern for wildcard in "*?["):
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)
    return any(pattern in name for name in names)


def _experiments(found: list[Entry]) -> list[str]:
    rows = [("experiment", "data", "derives from", "published")]
    for entry in found:
        published = "" if entry.published is None else f"{entry.published:g} bpd"
        rows.append((entry.name, registry.data_of(entry), entry.parent or "", published))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, entry in zip(rows, [None, *found], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        if entry is not None:
            lines += textwrap.wrap(
                entry.hypothesis, SCREEN_WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT
            )
    return lines


def _tasks() -> list[str]:
    width = max(len(entry.name) for entry in tasks.TASKS)
    lines = ["task"]
    for entry in tasks.TASKS:
        lines.append(f"{entry.name.ljust(width)}  {entry.description}")
        lines += [f"{' ' * width}  --{flag}: {text}" for flag, text in entry.flags.items()]
    return lines
