"""The task that compares two evaluated models, image by image."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion_ode import units
from diffusion_ode.configs import documents
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.reporting.result_table import with_error
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.result_files import read_json, read_table, write_json

_CONFIDENCE = 0.95
# What must be alike for two figures to be of one kind: a key of "ode" in `result.json`, its name.
_KIND = {
    "dequantization": "dequantisation",
    "num_importance": "K =",
    "combination": "a combination of draws",
}
# What may differ, but puts the solver's error or the probes' into the difference: fields of `ode`.
_SOLVING = ("solver", "controller", "variable", "divergence")
_DIGITS = 6  # of a hash: enough to tell the few models of one user


@dataclass(frozen=True)
class Compare:
    """Paired difference of two models' likelihoods on the same test images.

    The images' own spread, which is most of a mean's standard error, cancels in the difference.

    Args:
      evaluation: name of this workdir's, e.g. "truncated_normal-k1", or with the checkpoint's step
        before it, "1000-truncated_normal-k1"; of several steps the newest. None takes the newest
        whose name the other workdir has, too.
      other: the same of the other workdir's; None takes the name of this one's.
    """

    evaluation: str | None = None
    other: str | None = None

    def run(self, run: Run) -> TaskResult:
        """Compares this workdir's evaluation with that of `--with WORKDIR`."""
        other = run.options.get("with")
        if other is None:
            raise UserError(
                "The task compare needs another model: name its folder by --with=WORKDIR."
            )
        mine, theirs = self._evaluations(run, Path(other).expanduser())
        here, there = read_json(mine / "result.json"), read_json(theirs / "result.json")
        _check_same_data(here, there, run.workdir, other)
        _check_same_kind(here, there, mine, theirs)

        pairs = _paired(mine, theirs, here)
        difference = pairs.here - pairs.there
        unsound = _no_code_lengths(here, there)
        mean, error = float(np.mean(difference)), standard_error(difference)
        reach = _quantile(len(difference)) * error
        interval = (mean - reach, mean + reach)
        result = {
            "data": here["data"],
            "this": {
                "workdir": str(run.workdir),
                "evaluation": mine.name,
                "bpd": float(np.mean(pairs.here)),
            },
            "other": {
                "workdir": other,
                "evaluation": theirs.name,
                "bpd": float(np.mean(pairs.there)),
            },
            "difference": mean,
            "standard_error": error,
            "confidence_interval_95": interval,
            "num_images": len(difference),
            "left_out": pairs.left_out,
            "images_better_here": float(np.mean(difference < 0.0)),
            "code_lengths": not unsound,
        }
        run.begin()
        path = run.workdir / "comparisons" / f"{mine.name}-with-{_label(theirs)}.json"
        if processes.is_leader():
            write_json(path, result)
        return TaskResult(
            rows=[
                ("this model", f"{result['this']['bpd']:.4f} bpd, {mine.name}"),
                ("", f"of {run.workdir}"),
                ("other model", f"{result['other']['bpd']:.4f} bpd, {theirs.name}"),
                ("", f"of {other}"),
                ("difference, paired", f"{with_error(mean, error)} bpd"),
                ("95 % interval", f"{interval[0]:+.4f} to {interval[1]:+.4f} bpd"),
                ("verdict", _verdict(interval)),
                (
                    "images",
                    f"{len(difference)}, of which {100 * result['images_better_here']:.0f} % are"
                    " coded shorter here",
                ),
                *unsound,
                *_solved_otherwise(here, there),
                *[("", f"{count} left out: {why}") for why, count in pairs.left_out.items()],
            ],
            written=[("comparison", path)],
        )

    def _evaluations(self, run: Run, other: Path) -> tuple[Path, Path]:
        """The folders of this workdir's evaluation and the other's."""
        here, there = _finished(run.workdir), _finished(other)
        wanted = self.evaluation
        if wanted is None and self.other is None:
            names = {_kind_of(folder) for folder in there}
            wanted = next((kind for kind in map(_kind_of, here) if kind in names), None)
        mine = here[0] if wanted is None else _of_name(here, wanted)
        return mine, _of_name(there, self.other or _kind_of(mine))


def _finished(workdir: Path) -> list[Path]:
    """The folders of all evaluations that have ended, the last one first."""
    results = sorted(
        (workdir / "evaluations").glob("*/result.json"), key=lambda path: -path.stat().st_mtime
    )
    if not results:
        there = "has no finished evaluation" if workdir.is_dir() else "is no folder"
        raise UserError(
            f"{workdir} {there}: name the workdir of a training, and run --task=evaluate there"
            " first."
        )
    return [path.parent for path in results]


def _of_name(found: list[Path], name: str) -> Path:
    """The first one of that name, which may have its step before it."""
    for folder in found:
        if name in (folder.name, _kind_of(folder)):
            return folder
    there = ", ".join(folder.name for folder in found)
    raise UserError(
        f"{found[0].parent} has no finished evaluation named {name}, but {there}: choose by --set"
        " compare.evaluation=… and --set compare.other=…, or evaluate there under that name."
    )


def _kind_of(evaluation: Path) -> str:
    """Its name without the step."""
    return evaluation.name.partition("-")[2]


def _check_same_data(here: dict[str, Any], there: dict[str, Any], workdir: Path, other: str):
    for what in ("fingerprint", "split"):
        if here["data"][what] != there["data"][what]:
            raise UserError(
                f"{workdir} was evaluated on {here['data']['name']} ({here['data']['fingerprint']})"
                f" and {other} on {there['data']['name']} ({there['data']['fingerprint']}): figures"
                " on different data are never compared; evaluate both on the same."
            )


def _check_same_kind(here: dict[str, Any], there: dict[str, Any], mine: Path, theirs: Path):
    """Bounds of different kinds differ without any difference between the models."""
    for key, what in _KIND.items():
        ours, others = (result["ode"].get(key, "unknown") for result in (here, there))
        alone = key == "combination" and here["ode"]["num_importance"] == 1  # nothing to combine
        if ours != others and not alone:
            _refuse_unlike(f"{what} {ours}", f"{what} {others}", mine, theirs)
    quirks = [", ".join(sorted(result.get("quirks", []))) or "none" for result in (here, there)]
    if quirks[0] != quirks[1]:
        _refuse_unlike(f"the quirks {quirks[0]}", f"the quirks {quirks[1]}", mine, theirs)


def _no_code_lengths(here: dict[str, Any], there: dict[str, Any]) -> list[tuple[str, str]]:
    """A warning where a figure is none, which its evaluation has said already."""
    return [
        ("NO CODE LENGTH", f"{whose}: {result['ode'].get('no_code_length_because')}")
        for whose, result in (("this model", here), ("other model", there))
        if result["ode"].get("code_length") is False
    ]


def _solved_otherwise(here: dict[str, Any], there: dict[str, Any]) -> list[tuple[str, str]]:
    """A warning where the ODEs were not solved alike: then the solver's error is in the verdict."""
    changes = documents.difference(here.get("config"), there.get("config"))
    changed = {tuple(change.path.split(".")[:3]) for change in changes}
    fields = [name for name in _SOLVING if ("evaluate", "ode", name) in changed]
    rows = []
    if fields:
        verb = "differs" if len(fields) == 1 else "differ"
        rows.append(("SOLVED OTHERWISE", f"{', '.join(fields)} {verb}: that error is in it, too"))
    if ("evaluate", "seed") in changed:
        rows.append(("DRAWN OTHERWISE", "evaluate.seed differs: noise and probes are not paired"))
    return rows


def _refuse_unlike(ours: str, others: str, mine: Path, theirs: Path):
    raise UserError(
        f"{mine} was evaluated with {ours} and {theirs} with {others}: such figures are never"
        " compared; evaluate both alike."
    )


class _Pairs(NamedTuple):
    """Bits per dimension [n] of the images in common, and how many others there are, by reason."""

    here: np.ndarray
    there: np.ndarray
    left_out: dict[str, int]


def _paired(mine: Path, theirs: Path, here: dict[str, Any]) -> _Pairs:
    """Code lengths of the images whose solves converged in both evaluations."""
    rows, values = [], []
    for folder in (mine, theirs):
        table = read_table(folder / "per_example.csv")
        sound = table["converged"] > 0.0
        rows.append(set(table["index"].tolist()))
        pairs = zip(table["index"][sound].tolist(), table["log_likelihood"][sound], strict=True)
        values.append(dict(pairs))
    both, common = rows[0] & rows[1], sorted(values[0].keys() & values[1].keys())
    if len(common) < 2:
        raise UserError(
            f"{mine} and {theirs} have {len(common)} converged images in common: evaluate both on"
            " more."
        )
    failed = [both - value.keys() for value in values]
    left_out = {
        "evaluated here only": len(rows[0] - rows[1]),
        "evaluated there only": len(rows[1] - rows[0]),
        "not converged here": len(failed[0] - failed[1]),
        "not converged there": len(failed[1] - failed[0]),
        "not converged in both": len(failed[0] & failed[1]),
    }
    scale = -math.prod(here["data"]["shape"])  # a longer code is a smaller likelihood
    codes = [
        units.bits_per_dimension(np.asarray([value[index] for index in common]), scale)
        for value in values
    ]
    return _Pairs(codes[0], codes[1], {why: count for why, count in left_out.items() if count})


def _quantile(n: int) -> float:
    """Of Student's t with n − 1 degrees of freedom: the standard error is itself an estimate."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + 0.5 * _CONFIDENCE))


def _label(evaluation: Path) -> str:
    """A name for the other model that no other folder shares, even if its last part does."""
    place = evaluation.resolve()
    digest = hashlib.sha256(str(place).encode()).hexdigest()[:_DIGITS]
    return f"{place.parents[1].name}-{digest}"


def _verdict(interval: tuple[float, float]) -> str:
    if interval[1] < 0.0:
        return "this model codes the data shorter"
    if interval[0] > 0.0:
        return "the other model codes the data shorter"
    return "no difference that these images could show"
