"""Curves of several trainings, and the figures that they ended with, as one picture."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_ode.checking import shown
from diffusion_ode.errors import UserError, printable
from diffusion_ode.foreign import lines_of, open_regular, refused
from diffusion_ode.reporting.jsonl_writer import FILE, MAX_LINE
from diffusion_ode.reporting.tables import Quantity
from diffusion_ode.suggestions import suggestion
from diffusion_ode.workdir.files import replace_atomically

MAX_VALUES = 1 << 22
"""Of a file, in 600 MB; a million steps that log twenty values every hundred make a fifth."""
_MAX_NAMES, _LONGEST_NAME, _LAST_STEP = 10_000, 200, 1 << 53
PREFERRED = ("validation/bpd", "train/bpd")
_WIDTH, _ROW, _HEIGHT = 4.6, 0.32, 3.2  # inches: of a panel, of a row of the second, at least
_DPI = 200
_FORMS = ("png", "pdf")

Curve = Mapping[int, float]
"""A value by step."""


@dataclass(frozen=True)
class Drawn:
    """A row of the report.

    Attributes:
      name: for the legend.
      workdirs: of its runs.
      figure: bits per dimension in the end; None where there are none.
    """

    name: str
    workdirs: Sequence[Path]
    figure: Quantity | None


def logged(workdir: Path) -> Mapping[str, Curve]:
    """What a training has logged, by metric; a line that is not whole counts for nothing.

    Raises:
      UserError: the file cannot be read, or has more values than anything has logged.
    """
    curves: dict[str, dict[int, float]] = {}
    path, count = workdir / FILE, 0
    if not path.exists():
        return curves
    with (
        refused(lambda why: f"{path} cannot be read ({why}): leave {workdir} out."),
        open_regular(path) as file,
    ):
        for line in lines_of(file, MAX_LINE):
            try:
                values = json.loads(line)
                step = int(values.pop("step"))
                numbers = {name: float(x) for name, x in values.items() if x is not None}
            except Exception:  # anything may be in it
                continue
            if not 0 <= step <= _LAST_STEP or max(map(len, numbers), default=0) > _LONGEST_NAME:
                raise ValueError(f"the step {shown(step)}, or a name of {_LONGEST_NAME} letters")
            for name, number in numbers.items():
                curves.setdefault(name, {})[step] = number
            count += len(numbers)
            if count > MAX_VALUES or len(curves) > _MAX_NAMES:
                raise ValueError(f"more than {MAX_VALUES} values, or {_MAX_NAMES} metrics")
    return curves


def draw(path: Path, rows: Sequence[Drawn], metric: str | None = None) -> str:
    """Writes the picture in the form that the path's suffix names; the metric that it shows.

    Thin lines are single seeds, thick ones their means.

    Raises:
      UserError: matplotlib is missing, a run lacks the metric, or the path is none for a figure.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "A figure needs matplotlib, which is not installed: pip install matplotlib."
        ) from None
    form = path.suffix[1:].lower()
    if form not in _FORMS:
        raise UserError(f"--figure={path} is neither a .png nor a .pdf: end it in .png or .pdf.")
    if not path.absolute().parent.parent.is_dir():  # one new folder is meant, two are a slip
        raise UserError(f"--figure={path}: there is no {path.parent.parent}; name another folder.")
    curves = [[logged(workdir) for workdir in row.workdirs] for row in rows]
    workdirs = [workdir for row in rows for workdir in row.workdirs]
    metric = _metric(dict(zip(workdirs, itertools.chain(*curves), strict=True)), metric)
    ended = [row for row in rows if row.figure is not None]
    height = max(_HEIGHT, _ROW * (len(rows) + 2))
    figure = Figure((_WIDTH * (2 if ended else 1), height), layout="constrained")
    axes = figure.subplots(1, 2 if ended else 1, squeeze=False)[0]
    for number, (row, several) in enumerate(zip(rows, curves, strict=True)):
        colour = f"C{number % 10}"
        each = [named[metric] for named in several]
        if len(each) > 1:
            for curve in each:
                _draw_curve(axes[0], curve, color=colour, linewidth=0.6, alpha=0.5)
        _draw_curve(axes[0], _mean(each), color=colour, linewidth=1.6, label=_written(row.name))
    axes[0].set(xlabel="step", ylabel=_labelled(metric))
    axes[0].grid(alpha=0.3)
    axes[0].legend(fontsize="small", frameon=False)
    if ended:
        _draw_figures(axes[1], rows)
    try:
        # What overflows is raised as its own error in the end.
        with np.errstate(all="ignore"), replace_atomically(path, "wb") as file:
            figure.savefig(file, format=form, dpi=_DPI)
    except OSError as error:
        raise UserError(
            f"--figure={path} cannot be written ({error.strerror}): name another file."
        ) from error
    return metric


def _draw_curve(axes, curve: Curve, **style) -> None:
    marker = "o" if len(curve) == 1 else None  # a line of one point is none
    axes.plot(list(curve), list(curve.values()), marker=marker, **style)


def _draw_figures(axes, rows: Sequence[Drawn]) -> None:
    """A point for each row with its error over images, and thicker that over seeds."""
    for number, row in enumerate(rows):
        shown, colour = row.figure, f"C{number % 10}"
        if shown is None:
            across = axes.get_yaxis_transform()
            axes.text(0.5, number, "no figure", transform=across, ha="center", va="center")
            continue
        axes.errorbar(
            shown.value, number, xerr=shown.error, fmt="o", color=colour, capsize=3, linewidth=1
        )
        if shown.over_seeds is not None:
            axes.errorbar(shown.value, number, xerr=shown.over_seeds, color=colour, linewidth=3.5)
    axes.set(xlabel="bits per dimension", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [_written(row.name) for row in rows], fontsize="small")
    axes.grid(axis="x", alpha=0.3)


def _metric(curves: Mapping[Path, Mapping[str, Curve]], wanted: str | None) -> str:
    if wanted is None:
        in_all = [
            m for m in PREFERRED if all(len(named.get(m, ())) > 1 for named in curves.values())
        ]
        wanted = (*in_all, PREFERRED[-1])[0]
    for workdir, named in curves.items():
        if wanted not in named:
            raise UserError(
                f"{workdir} has logged no {wanted} in metrics.jsonl; {suggestion(wanted, named)}"
            )
    return wanted


def _mean(curves: Sequence[Curve]) -> Curve:
    common = set.intersection(*map(set, curves))
    return {step: statistics.fmean(curve[step] for curve in curves) for step in sorted(common)}


def _labelled(metric: str) -> str:
    return {
        "train/bpd": "bits per dimension, training",
        "validation/bpd": "bits per dimension, validation",
    }.get(metric, _written(metric))


def _written(name: str) -> str:
    """A name for matplotlib, which takes $ for formulas and hides what begins with _."""
    text = printable(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
