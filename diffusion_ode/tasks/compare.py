"""The task that compares two evaluated models, image by image."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode import processes, units
from diffusion_ode.errors import UserError
from diffusion_ode.inference.uncertainty import standard_error
from diffusion_ode.reporting.result_files import read_json, read_table, write_json
from diffusion_ode.reporting.result_table import with_error
from diffusion_ode.tasks.outcome import Outcome
from diffusion_ode.tasks.run import Run

_TWO_SIDED_95 = 1.96  # of the normal distribution: there are hundreds of images


@dataclass(frozen=True)
class Compare:
    """Paired difference of two models' likelihoods on the same test images.

    The images' own spread, which is most of a mean's standard error, cancels in the difference.

    Args:
      evaluation: name of the evaluations to compare, e.g. "truncated_normal-k1"; None takes the
        newest of this workdir, and the other's of the same name.
    """

    evaluation: str | None = None

    def run(self, run: Run) -> Outcome:
        """Compares this workdir's evaluation with that of `--with WORKDIR`."""
        other = run.options.get("with")
        if other is None:
            raise UserError(
                "The task compare needs another model: name its folder by --with=WORKDIR."
            )
        mine = _newest(run.workdir, self.evaluation)
        theirs = _newest(Path(other).expanduser(), mine.name.partition("-")[2])
        here, there = read_json(mine / "result.json"), read_json(theirs / "result.json")
        _check_same_data(here, there, run.workdir, other)

        difference = _paired(mine, theirs, here)
        mean, error = float(np.mean(difference)), standard_error(difference)
        interval = (mean - _TWO_SIDED_95 * error, mean + _TWO_SIDED_95 * error)
        result = {
            "data": here["data"],
            "this": {"workdir": str(run.workdir), "bpd": here["ode"]["bpd"]},
            "other": {"workdir": other, "bpd": there["ode"]["bpd"]},
            "difference": mean,
            "standard_error": error,
            "confidence_interval_95": interval,
            "num_images": len(difference),
            "images_better_here": float(np.mean(difference < 0.0)),
        }
        run.begin()
        path = run.workdir / "comparisons" / f"{mine.name}-with-{Path(other).name}.json"
        if processes.is_leader():
            write_json(path, result)
        return Outcome(
            rows=[
                ("this model", f"{here['ode']['bpd']:.4f} bpd ({mine})"),
                ("other model", f"{there['ode']['bpd']:.4f} bpd ({theirs})"),
                ("difference, paired", f"{with_error(mean, error)} bpd"),
                ("95 % interval", f"{interval[0]:+.4f} to {interval[1]:+.4f} bpd"),
                ("verdict", _verdict(interval)),
                (
                    "images",
                    f"{len(difference)}, of which {100 * result['images_better_here']:.0f} % are"
                    " coded shorter here",
                ),
            ],
            written=[("comparison", path)],
        )


def _newest(workdir: Path, name: str | None) -> Path:
    """The folder of the evaluation that was finished last, of that name if one is given."""
    found = [
        path.parent
        for path in (workdir / "evaluations").glob("*/result.json")
        if name is None or path.parent.name.partition("-")[2] == name
    ]
    if not found:
        what = "finished evaluation" if name is None else f"finished evaluation named {name}"
        raise UserError(
            f"{workdir} has no {what}: run --task=evaluate there first, with the same settings."
        )
    return max(found, key=lambda folder: (folder / "result.json").stat().st_mtime)


def _check_same_data(here: dict[str, Any], there: dict[str, Any], workdir: Path, other: str):
    for what in ("fingerprint", "split"):
        if here["data"][what] != there["data"][what]:
            raise UserError(
                f"{workdir} was evaluated on {here['data']['name']} ({here['data']['fingerprint']})"
                f" and {other} on {there['data']['name']} ({there['data']['fingerprint']}): figures"
                " on different data are never compared; evaluate both on the same."
            )


def _paired(mine: Path, theirs: Path, here: dict[str, Any]) -> np.ndarray:
    """Bits per dimension here minus there, of the images that both have, converged."""
    values = []
    for folder in (mine, theirs):
        table = read_table(folder / "per_example.csv")
        converged = table["converged"] > 0.0
        values.append(
            dict(zip(table["index"][converged], table["log_likelihood"][converged], strict=True))
        )
    common = sorted(values[0].keys() & values[1].keys())
    if len(common) < 2:
        raise UserError(
            f"{mine} and {theirs} have {len(common)} images in common: evaluate both on more."
        )
    nats = np.asarray([values[1][index] - values[0][index] for index in common])
    return units.bits_per_dimension(nats, math.prod(here["data"]["shape"]))


def _verdict(interval: tuple[float, float]) -> str:
    if interval[1] < 0.0:
        return "this model codes the data shorter"
    if interval[0] > 0.0:
        return "the other model codes the data shorter"
    return "no difference that these images could show"
