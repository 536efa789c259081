"""Finished evaluations: finding them in a workdir, and what they hold."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode import units
from diffusion_ode.checking import shown
from diffusion_ode.configs.upgrade import upgraded
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.bound_pass import BoundPass
from diffusion_ode.evaluation.per_example import read_table
from diffusion_ode.foreign import refused
from diffusion_ode.ranges import is_count
from diffusion_ode.workdir.result_files import read_json


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation.

    Attributes:
      folder: `WORKDIR/evaluations/STEP-NAME`.
      result: its `result.json`.
    """

    folder: Path
    result: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Evaluated":
        result = read_json(folder / "result.json")
        if not isinstance(result, dict) or not (result.get("ode") or result.get("bound")):
            raise UserError(f"{folder / 'result.json'} is no result: evaluate anew.")
        return cls(folder, {**result, "config": upgraded(result.get("config"))})

    def is_of_same_model(self, other: "Evaluated") -> bool:
        """Whether it is the same checkpoint of the same workdir."""
        digests = [each.result.get("checkpoint", {}).get("digest") for each in (self, other)]
        here, there = (each.folder.resolve().parent for each in (self, other))
        return here == there and digests[0] is not None and digests[0] == digests[1]

    def is_of_same_images(self, other: "Evaluated") -> bool:
        """Whether an index names the same image in both."""
        ours, theirs = self.result["data"], other.result["data"]
        same = all(ours[key] == theirs[key] for key in ("fingerprint", "split"))
        return same and (ours["split"] == "test" or ours["split_images"] == theirs["split_images"])

    def bits(self, figure: str) -> dict[int, float]:
        """Bits per dimension by image; NaN where the solve did not converge.

        Raises:
          UserError: a file is not as an evaluation writes it.
        """
        with (
            refused(lambda why: f"{self.folder} is not as it was written ({why}): evaluate anew."),
            np.errstate(over="raise"),
        ):
            table = read_table(self.folder / "per_example.csv")
            if figure == "ode":
                nats = np.where(table["converged"] > 0.0, -table["log_likelihood"], np.nan)
            else:
                nats = np.sum([table[column] for column in BoundPass.columns], axis=0)
            shape = self.result["data"]["shape"]
            if not (shape and all(type(size) is int and size > 0 for size in shape)):
                raise ValueError(f"images of the shape {shown(shape)}")
            bits = units.bits_per_dimension(nats, math.prod(shape))
            return dict(zip(table["index"].tolist(), bits.tolist(), strict=True))


def finished(workdir: Path) -> list[Path]:
    """The folders of all evaluations that have ended, the last one first.

    Raises:
      UserError: there are none.
    """
    found = list_finished(workdir)
    if not found:
        there = "has no finished evaluation" if workdir.is_dir() else "is not a folder"
        raise UserError(
            f"{workdir} {there}: name the workdir of a training, and run --task=evaluate there"
            " first."
        )
    return found


def list_finished(workdir: Path) -> list[Path]:
    """The same, of which there may be none."""
    results = (workdir / "evaluations").glob("*/result.json")
    return [path.parent for path in sorted(results, key=_last_first)]


def _last_first(result: Path) -> tuple[float, int]:
    """By when it was written; of one moment, as files that were copied may be, by the step."""
    step = result.parent.name.partition("-")[0]
    return -result.stat().st_mtime, -int(step) if is_count(step) else 0


def of_name(found: list[Path], name: str) -> Path:
    """The first one of that name, which may have its step before it."""
    for folder in found:
        if name in (folder.name, kind_of(folder)):
            return folder
    there = ", ".join(folder.name for folder in found)
    raise UserError(
        f"{found[0].parent} has no finished evaluation named {name}, but {there}: choose by --set"
        " compare.evaluation=… and --set compare.other=…, or evaluate there under that name."
    )


def kind_of(evaluation: Path) -> str:
    """Its name without the step."""
    return evaluation.name.partition("-")[2]
