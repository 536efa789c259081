"""The points of a sweep: every combination of the grid's values, each checked before any runs."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fiddle as fdl

from diffusion_ode.configs.documents import Document, rendered_at
from diffusion_ode.errors import UserError
from experiments import registry
from experiments.config.building import build, sentence
from experiments.config.conversion import to_document
from experiments.config.overrides import override

MOST_POINTS = 10_000
_LONGEST_VALUE = 40  # characters of a folder's name
_DIGITS = 6  # of a hash
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""


@dataclass(frozen=True)
class Axis:
    """A field and its values, as typed."""

    path: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One ordinary run of a sweep.

    Attributes:
      name: of its workdir within the sweep's folder.
      experiment: its name, as for `--exp`.
      settings: as for `--set`.
      document: its config.
      tasks: that it runs, in order.
    """

    name: str
    experiment: str
    settings: tuple[str, ...]
    document: Document
    tasks: tuple[str, ...]

    def workdir(self, folder: Path) -> Path:
        return folder / self.name


def read_axis(text: str) -> Axis:
    """The axis that `PATH=VALUE,VALUE` describes; commas within brackets or quotes divide nothing.

    Raises:
      UserError: it is not of that form.
    """
    path, equals, rest = text.partition("=")
    values = tuple(value.strip() for value in _divided(rest, text))
    if not equals or not path.strip() or not all(values):
        raise UserError(
            f"--grid {text!r:.200} is not PATH=VALUE,VALUE, e.g. train.seed=0,1,2 or"
            " 'model.path=straight_path(),variance_preserving()'."
        )
    return Axis(path.strip(), values)


def points(
    experiments: Sequence[str], axes: Sequence[Axis], settings: Sequence[str]
) -> list[Point]:
    """Every combination, the last axis fastest, and the experiments faster still.

    So the first ones to run are those that are to be compared, and what several jobs compile at a
    time are different programs, which the points to come find compiled.

    Args:
      experiments: their names.
      axes: of the grid.
      settings: that all points share, as for `--set`.

    Raises:
      UserError: an axis says something twice or what `settings` say, or a point cannot be built.
    """
    _check(experiments, axes, settings)
    combinations = list(itertools.product(*(axis.values for axis in axes), experiments))
    bases = {experiment: _base(experiment, settings) for experiment in experiments}
    labels = _labels([axis.path for axis in axes])
    found, origins = [], {}
    for *values, experiment in combinations:
        own = tuple(f"{axis.path}={value}" for axis, value in zip(axes, values, strict=True))
        entry, common = bases[experiment]
        try:
            config = override(common, own)
            built = build(config)
        except UserError as error:
            where = f"At {' '.join(own)}: " if len(axes) > 1 else ""
            raise UserError(f"{where}{sentence(error)}") from error
        document = to_document(config)
        rendered = [str(rendered_at(document, axis.path)) for axis in axes]
        parts = [f"{label}={_for_a_folder(v)}" for label, v in zip(labels, rendered, strict=True)]
        name = ",".join([entry.name] * (len(experiments) > 1 or not axes) + parts)
        if (before := origins.setdefault((entry.name, *rendered), own)) is not own:
            raise UserError(
                f"The grid has the same point twice, as {' '.join(before)} and as {' '.join(own)}:"
                " leave one out."
            )
        tasks = ("train", *getattr(built, "after_training", ()))
        found.append(Point(name, experiment, (*settings, *own), document, tasks))
    if twice := _twice([point.name for point in found]):  # names differ in signs that folders lack
        raise UserError(
            f"Two points of the grid would have the name {twice}: give such"
            " values in sweeps of their own."
        )
    return found


def _base(experiment: str, settings: Sequence[str]) -> tuple[registry.Entry, fdl.Config]:
    """The experiment, and its config with what all its points share."""
    entry = registry.find(experiment)
    return entry, override(registry.configuration_of(entry), settings)


def _check(experiments: Sequence[str], axes: Sequence[Axis], settings: Sequence[str]) -> None:
    paths = [axis.path for axis in axes]
    for what, given in (("--exp", experiments), ("--grid", paths)):
        if twice := _twice(given):
            raise UserError(f"{what} names {twice} twice: name it once.")
    for axis in axes:
        if twice := _twice(axis.values):
            raise UserError(f"--grid {axis.path} has {twice} twice: give it once.")
        inner = [p for p in paths if p != axis.path and f"{p}.".startswith(f"{axis.path}.")]
        if inner:
            raise UserError(
                f"--grid {inner[0]} is a part of {axis.path}, which the grid sets as a whole: give"
                f" {axis.path} its values with that part, or sweep one of them."
            )
        for setting in settings:
            path = setting.partition("=")[0].strip()
            if f"{path}.".startswith(f"{axis.path}."):
                raise UserError(
                    f"{path} is set by --set, and {axis.path} by --grid: leave one of them out."
                    if path != axis.path
                    else f"{path} is set by both --set and --grid: leave one of them out."
                )
    count = len(experiments)
    for axis in axes:
        count *= len(axis.values)
    if count > MOST_POINTS:
        raise UserError(
            f"The grid has {count:,} points, more than {MOST_POINTS:,}: make it smaller."
        )


def _twice(names: Sequence[str]) -> str | None:
    """The first that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _divided(text: str, whole: str) -> Iterator[str]:
    """The text between its commas, but for those within brackets or quotes."""
    expected: list[str] = []
    quote, start = "", 0
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in _QUOTES:
            quote = sign
        elif sign in _OPENING:
            expected.append(_CLOSING[_OPENING.index(sign)])
        elif sign in _CLOSING:
            if not expected or expected.pop() != sign:
                raise UserError(f"--grid {whole!r:.200} has a {sign} too many.")
        elif sign == "," and not expected:
            yield text[start:place]
            start = place + 1
    if quote or expected:
        raise UserError(f"--grid {whole!r:.200} lacks its {quote or expected[-1]}.")
    yield text[start:]


def _labels(paths: Sequence[str]) -> list[str]:
    """The last parts of each path that tell it from the others."""
    labels = []
    for path in paths:
        parts = path.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        alike = (e for e in ends if sum(f".{other}".endswith(f".{e}") for other in paths) == 1)
        labels.append(next(alike, path))
    return labels


def _for_a_folder(value: str) -> str:
    """A value as a part of a folder's name."""
    plain = re.sub(r"[^\w.+-]+", "_", value.removesuffix("()")).strip("_")
    if len(plain) <= _LONGEST_VALUE:
        return plain
    digest = hashlib.sha256(value.encode()).hexdigest()[:_DIGITS]
    return f"{plain[:_LONGEST_VALUE]}-{digest}"
