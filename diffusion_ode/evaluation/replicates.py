"""Runs of one config under different seeds as one row, and the order of such rows."""

import itertools
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.comparison import check_same_ranking
from diffusion_ode.evaluation.evaluated import Evaluated, kind_of
from diffusion_ode.evaluation.reported_run import ReportedRun
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.reporting.tables import Quantity

FIGURES = {"ode": "ODE", "bound": "bound"}


@dataclass(frozen=True)
class Replicates:
    """Runs of one config under different seeds, judged alike; often a single one."""

    runs: Sequence[ReportedRun]

    @property
    def first(self) -> ReportedRun:
        return self.runs[0]

    @property
    def judged(self) -> list[Evaluated]:
        return [run.evaluated for run in self.runs if run.evaluated is not None]

    @property
    def name(self) -> str:
        """The workdirs', with what differs in braces, as a shell takes it."""
        return braced([run.workdir.resolve().name for run in self.runs])

    def has(self, workdir: Path) -> bool:
        return any(run.workdir.resolve() == workdir.resolve() for run in self.runs)

    def bits(self, figure: str) -> dict[int, float]:
        """Bits per dimension by image, the mean over seeds; NaN where one did not converge."""
        each = [evaluated.bits(figure) for evaluated in self.judged]
        common = set.intersection(*map(set, each))
        return {index: statistics.fmean(bits[index] for bits in each) for index in sorted(common)}

    def measured(self, figure: str) -> bool:
        found = [evaluated.result.get(figure) for evaluated in self.judged]
        return bool(found) and all(found)

    def figure(self, figure: str) -> Quantity | None:
        """The mean bits per dimension; None if not measured, or no image of a run converged."""
        if not self.measured(figure):
            return None
        each = [_finite(evaluated.bits(figure)) for evaluated in self.judged]
        if not all(map(len, each)):
            return None
        return _quantity(
            [float(np.mean(b)) for b in each], standard_error(_finite(self.bits(figure)))
        )

    def lacks_code_length(self, figure: str) -> bool:
        return any(each.result[figure].get("code_length") is False for each in self.judged)


def replicates(runs: Iterable[ReportedRun]) -> list[Replicates]:
    """Runs that differ by nothing but the seed, together; those of one seed stay apart."""
    alike: dict[str, list[ReportedRun]] = {}
    for run in runs:
        judged = run.evaluated and [kind_of(run.evaluated.folder), run.evaluated.result["data"]]
        key = json.dumps([run.experiment, run.settings, run.step, judged])
        alike.setdefault(key, []).append(run)
    rows = []
    for several in alike.values():
        if len({run.seed for run in several}) == len(several):
            rows.append(Replicates(several))
        else:
            rows += [Replicates([run]) for run in several]
    return rows


def apart(rows: Sequence[Replicates]) -> list[list[Replicates]]:
    """The rows, those that may be ranked together; what was not evaluated is by itself."""
    groups: list[list[Replicates]] = []
    for row in rows:
        for group in groups:
            try:
                check_one_ranking([*group[:1], row])
            except UserError:
                continue
            if bool(group[0].judged) == bool(row.judged):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def ranking_figure(rows: Sequence[Replicates]) -> str | None:
    """The first of FIGURES that all evaluated rows have; None if there is none."""
    judged = [row for row in rows if row.judged]
    return next((f for f in FIGURES if judged and all(row.measured(f) for row in judged)), None)


def ranked(rows: Sequence[Replicates], figure: str | None) -> list[Replicates]:
    """Fewest bits first, then what is no code length, then what has no figure."""

    def rank(row: Replicates) -> tuple[bool, float]:
        found = row.figure(figure) if figure else None
        if figure is None or found is None:
            return True, math.inf
        return row.lacks_code_length(figure), found.value

    return sorted(rows, key=rank)


def check_one_ranking(rows: Sequence[Replicates]) -> None:
    """Refuses figures that may not be ranked together.

    Raises:
      UserError: they are of different images, or found otherwise.
    """
    judged = [evaluated for row in rows for evaluated in row.judged]
    for other in judged[1:]:
        check_same_ranking(judged[0], other)


def braced(names: Sequence[str]) -> str:
    """Several names as one: `vp-0`, `vp-1` are `vp-{0,1}`; no number is broken."""
    if len(set(names)) == 1:
        return names[0]
    before = re.sub(r"\d+$", "", _common_beginning(names))
    ends = [name[len(before) :] for name in names]
    after = re.sub(r"^[\d.]+", "", _common_beginning([end[::-1] for end in ends])[::-1])
    middles = (end[: len(end) - len(after)] for end in ends)
    return f"{before}{{{','.join(middles)}}}{after}"


def _common_beginning(texts: Sequence[str]) -> str:
    alike = itertools.takewhile(lambda signs: len(set(signs)) == 1, zip(*texts, strict=False))
    return "".join(signs[0] for signs in alike)


def _quantity(means: Sequence[float], error: float, signed: bool = False) -> Quantity:
    over_seeds = standard_error(np.asarray(means)) if len(means) > 1 else None
    return Quantity(
        statistics.fmean(means), error if math.isfinite(error) else None, over_seeds, signed
    )


def _finite(bits: Mapping[int, float]) -> np.ndarray:
    """Of the images that converged: [images]."""
    values = np.asarray(list(bits.values()))
    return values[np.isfinite(values)]
