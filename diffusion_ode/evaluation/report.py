"""A table of rows of runs, with what its figures are of; what cannot be ranked is refused."""

import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from diffusion_ode.configs import documents
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.comparison import compare, paired_means
from diffusion_ode.evaluation.judged_images import SPLITS
from diffusion_ode.evaluation.replicates import (
    FIGURES,
    Replicates,
    check_one_ranking,
    ranked,
    ranking_figure,
)
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.reporting.progress import duration
from diffusion_ode.reporting.quantities import counted
from diffusion_ode.reporting.tables import Column, Quantity, Table

_SHORT_REVISION = 9
_NO_FIGURE = "–"
_MOST_SETTINGS = 200  # that differ between runs: beyond, a table says nothing
_LONG = 32  # characters of a setting, of which people read only the name


def table(
    rows: Sequence[Replicates], baseline: Path | None = None, columns: Sequence[str] | None = None
) -> Table:
    """The rows, fewest bits first.

    Args:
      rows: of `replicates`.
      baseline: a workdir of one of them, to which all differences are taken.
      columns: of COLUMNS, those that are wanted; None for all that tell something.

    Raises:
      UserError: they were judged on different images or otherwise, or there is no such baseline.
    """
    check_one_ranking(rows)
    figures = [
        name
        for name in FIGURES
        if any(evaluated.result.get(name) for row in rows for evaluated in row.judged)
    ]
    ranked_by = ranking_figure(rows)
    rows = ranked(rows, ranked_by)
    differences = _differences(rows, baseline, ranked_by)
    wanted = COLUMNS if columns is None else columns
    known: dict[str, list[Column]] = {
        "run": [Column("run", "run", [row.name for row in rows])],
        "experiment": [_experiments(rows, columns is not None)],
        "settings": _settings(rows) if "settings" in wanted else [],
        "seeds": [Column(_seeds_heading(rows), "seeds", _seeds(rows), told_below=True)],
        **{name: [_figures(rows, name), *_qualities(rows, name)] for name in figures},
        "difference": differences,
        "nfe": [_column("NFE", _evaluations(rows), "nfe")],
        "steps": [_column("steps", [_text(row.first.step) for row in rows])],
        "time": [_times(rows)],
        "revision": [_revisions(rows)],
        "data": _data(rows),
    }
    told = [column for name in known if name not in wanted for column in known[name]]
    return Table(
        [
            *(column for name in wanted for column in known.get(name, [])),
            # What all rows share is told however few columns there is room for.
            *(column for column in told if column.told_below and len(set(column.cells)) == 1),
        ],
        [
            *_how_to_read(rows, figures, ranked_by, baseline),
            *_warnings(rows),
            *_no_differences(rows, baseline, differences),
        ],
    )


COLUMNS = (
    *("run", "experiment", "settings", "seeds", "ode", "bound", "difference"),
    *("nfe", "steps", "time", "revision", "data"),
)
"""What a table may have, in order."""


def _figures(rows: Sequence[Replicates], name: str) -> Column:
    """A dash stands where it was measured and no image converged."""
    exact = [row.figure(name) for row in rows]
    cells = [
        found or (_NO_FIGURE if row.measured(name) else None)
        for row, found in zip(rows, exact, strict=True)
    ]
    return Column(FIGURES[name], name, cells, exact)


def _qualities(rows: Sequence[Replicates], figure: str) -> list[Column]:
    """For programs, what notes tell people: of which kind the ODE's figure is, and why it is none.

    They stand beside the figure, so that nobody who asks for it goes without them.
    """
    if figure != "ode":
        return []

    def of(row: Replicates, key: str) -> str | None:
        odes = [evaluated.result.get("ode") or {} for evaluated in row.judged]
        told = dict.fromkeys(str(ode[key]) for ode in odes if ode.get(key) is not None)
        return "; ".join(told) or None

    keys = {"no_code_length": "no_code_length_because"}
    return [
        Column(name, name, [None] * len(rows), [of(row, keys.get(name, name)) for row in rows])
        for name in ("dequantization", "num_importance", "no_code_length")
    ]


def _experiments(rows: Sequence[Replicates], asked_for: bool) -> Column:
    """Left to the runs' names where these tell it, if nobody asks for it."""
    names = [row.first.experiment for row in rows]
    if asked_for or not all(name in row.name for name, row in zip(names, rows, strict=True)):
        return Column("experiment", "experiment", names, told_below=not asked_for)
    return Column("experiment", "experiment", [None] * len(rows), names)


def _settings(rows: Sequence[Replicates]) -> list[Column]:
    """A column for each field that differs, the outermost where a whole piece does.

    Raises:
      UserError: too many differ for a table.
    """
    trees = [row.first.settings for row in rows]
    paths = {change.path for tree in trees for change in documents.difference(trees[0], tree)}
    outer = {path for path in paths if paths.isdisjoint(_above(path))}
    if len(outer) > _MOST_SETTINGS:
        raise UserError(
            f"These runs differ in {len(outer)} settings, and a table has room for"
            f" {_MOST_SETTINGS}: name runs that are more alike, or leave the settings out by"
            " --columns=run,ode,bound."
        )
    order = list(dict.fromkeys(p for tree in trees for p in _paths(tree) if p in outer))
    columns = []
    for path in order:
        exact = [documents.rendered_at(tree, path) for tree in trees]
        names = [value and re.sub(r"\(.+\)$", "(…)", value) for value in exact]
        long = max(len(value or "") for value in exact) > _LONG
        shortened = long and len(set(names)) == len(set(exact))
        cells = [value and value.removesuffix("()") for value in (names if shortened else exact)]
        columns.append(Column(_heading(path, order), path, cells, exact))
    return columns


def _above(path: str) -> Iterator[str]:
    """The paths of all that a field lies in."""
    while path := path.rpartition(".")[0]:
        yield path


def _paths(document: documents.Document, path: str = "") -> list[str]:
    """Of all fields, in order."""
    if not documents.has_fields(document):
        return []
    paths = []
    for name, value in document["arguments"].items():
        inner = f"{path}.{name}" if path else name
        paths += [inner, *_paths(value, inner)]
    return paths


def _heading(path: str, others: Sequence[str]) -> str:
    """The last parts of a path that tell it from the others."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if sum(f".{other}".endswith(f".{end}") for other in others) == 1:
            # `learning_rate.peak` says more than `peak`.
            return end if count > 1 or len(parts) < 3 else ".".join(parts[-2:])
    return path


def _column(heading: str, cells: Sequence[str | None], name: str | None = None) -> Column:
    """One whose cells stand below the table if all rows share them."""
    return Column(heading, name or heading, cells, told_below=True)


def _seeds(rows: Sequence[Replicates]) -> list[str | None]:
    if all(run.seed in (None, rows[0].first.seed) for row in rows for run in row.runs):
        return [_text(row.first.seed) for row in rows]
    return [", ".join(str(run.seed) for run in row.runs) for row in rows]


def _seeds_heading(rows: Sequence[Replicates]) -> str:
    return "seeds" if any(len(row.runs) > 1 for row in rows) else "seed"


def _evaluations(rows: Sequence[Replicates]) -> list[str | None]:
    counts = []
    for row in rows:
        odes = [evaluated.result.get("ode") or {} for evaluated in row.judged]
        found = [ode["nfe_mean"] for ode in odes if "nfe_mean" in ode]
        counts.append(f"{statistics.fmean(found):.0f}" if found else None)
    return counts


def _times(rows: Sequence[Replicates]) -> Column:
    seconds = [[run.seconds for run in row.runs if run.seconds is not None] for row in rows]
    means = [statistics.fmean(each) if each else None for each in seconds]
    words = [None if mean is None else duration(mean) for mean in means]
    return Column("time", "seconds", words, [_text(mean) for mean in means], told_below=True)


def _revisions(rows: Sequence[Replicates]) -> Column:
    def revision(row: Replicates, digits: int | None) -> str | None:
        told = []
        for run in row.runs:
            if run.code is not None:
                known = run.code.get("revision")
                changed = "+" if run.code.get("modified") else ""
                told.append(f"{known[:digits]}{changed}" if known else "unknown")
        return ", ".join(dict.fromkeys(told)) or None

    short = [revision(row, _SHORT_REVISION) for row in rows]
    return Column("revision", "revision", short, [revision(r, None) for r in rows], told_below=True)


def _data(rows: Sequence[Replicates]) -> list[Column]:
    def of(row: Replicates, key: str) -> str | None:
        return _text(row.judged[0].result["data"].get(key)) if row.judged else None

    names = ("name", "split", "num_images", "fingerprint")
    cells = {name: [of(row, name) for row in rows] for name in names}
    # For people the first note says it.
    return [Column(name, f"data_{name}", [None] * len(rows), cells[name]) for name in names]


def _differences(
    rows: Sequence[Replicates], baseline: Path | None, figure: str | None
) -> list[Column]:
    if baseline is None:
        return []
    base = next((row for row in rows if row.has(baseline)), None)
    if base is None or not base.judged or figure is None:
        raise UserError(
            f"The baseline {baseline} is none of the evaluated runs that are reported: name it"
            " among them, too."
        )
    cells = [None if row is base else _difference(row, base, figure) for row in rows]
    return [Column("difference", "difference", cells)]


def _difference(row: Replicates, base: Replicates, figure: str) -> Quantity | None:
    """Paired over images, of the means over seeds; over those seeds that both have.

    None where fewer than two images converged in both.
    """
    if not row.judged:
        return None
    means = paired_means(row.bits(figure), base.bits(figure))
    if means.counts[0] < 2:
        return None
    compare(row.judged[0], base.judged[0])  # refuses what no pair of figures may be
    here, there = (
        {run.seed: run.evaluated for run in each.runs if run.evaluated} for each in (row, base)
    )
    pairs = [(here[seed], there[seed]) for seed in here if seed in there]
    over_seeds = None
    if len(pairs) > 1:
        each = [paired_means(a.bits(figure), b.bits(figure)).values for a, b in pairs]
        over_seeds = standard_error(np.asarray([ours - theirs for ours, theirs in each]))
    return Quantity(means.values[0] - means.values[1], means.error, over_seeds, signed=True)


def _how_to_read(
    rows: Sequence[Replicates],
    figures: Sequence[str],
    ranked_by: str | None,
    baseline: Path | None,
) -> list[str]:
    """What the figures are of, and what stands beside them."""
    judged = [evaluated for row in rows for evaluated in row.judged]
    if not judged or ranked_by is None:
        return []
    data = judged[0].result["data"]
    images = "images"
    if "num_images" in data:
        images = counted(data["num_images"], f"{SPLITS[data['split']]} image")
    notes = [
        f"bits per dimension of {images} of {data['name']}, fingerprint {data['fingerprint']};"
        " ± the standard error over images"
        + (", in brackets that over seeds" if any(len(r.runs) > 1 for r in rows) else "")
    ]
    if ranked_by == "ode":
        ode = judged[0].result["ode"]
        how = f"ODE: {ode['dequantization'].replace('_', ' ')} dequantisation, K = "
        notes.append(f"{how}{ode['num_importance']}")
    if baseline is not None:
        base = next(row for row in rows if row.has(baseline))
        notes.append(f"difference: of the {FIGURES[ranked_by]} to {base.name}, image by image")
    if len(figures) > 1 and ranked_by != figures[0]:
        notes.append(f"ranked by the {FIGURES[ranked_by]}, which all have")
    return notes


def _warnings(rows: Sequence[Replicates]) -> list[str]:
    """Figures that are none, and runs that have none yet."""
    notes = []
    if any((run.code or {}).get("modified") for row in rows for run in row.runs):
        notes.append("+ behind a revision: with changes, which the workdir keeps in code/")
    for row in rows:
        for run in row.runs:
            ode = (run.evaluated.result.get("ode") if run.evaluated else None) or {}
            if run.evaluated is None:
                notes.append(f"not evaluated: {run.workdir}")
            elif ode.get("code_length") is False:
                why = ode.get("no_code_length_because")
                notes.append(f"NO CODE LENGTH: {run.workdir}: {why}")
    return notes


def _no_differences(
    rows: Sequence[Replicates], baseline: Path | None, differences: Sequence[Column]
) -> list[str]:
    """Rows that were evaluated, and yet have no difference."""
    if baseline is None:
        return []
    base = next(row for row in rows if row.has(baseline))
    return [
        f"no difference for {row.name}: fewer than 2 images converged there and in {base.name}"
        for row, cell in zip(rows, differences[0].cells, strict=True)
        if cell is None and row.judged and row is not base
    ]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
