"""Published checkpoints: files `ckpt-N.flax` of i-DODE and of VDM.

Such a file holds {step, params, ema_params, opt_state}. The networks' parameters bear our names,
below `score_model`. The optimiser is a chain whose first link is Adam; with accumulation it is
wrapped, and `step` counts the parts of batches.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode.checking import shown
from diffusion_ode.checkpoints.state_dict import StateDict, read_state_dict
from diffusion_ode.errors import UserError

_FILE = re.compile(r"ckpt-(\d+)\.flax")
_NETWORK = "score_model"
_SCHEDULE = "gamma"
# Of a file that is another than it should be: enough to recognise it by.
_MAX_NAMES_SHOWN = 5
_MAX_NAME_SHOWN = 40


@dataclass(frozen=True)
class Moments:
    """Adam's state: steps counted, and running means of the gradient and of its square."""

    count: int
    mu: StateDict
    nu: StateDict


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """What a published file holds, as views of the file.

    Attributes:
      path: the file.
      step: of the training.
      parameters, ema: of the network, nested by the published names.
      gamma, gamma_ema: of a learned schedule; None if it was fixed.
      moments: of the network alone; None if the file has no Adam in it.
    """

    path: Path
    step: int
    parameters: StateDict
    ema: StateDict
    gamma: StateDict | None
    gamma_ema: StateDict | None
    moments: Moments | None


def read_reference(path: Path) -> ReferenceCheckpoint:
    """The published checkpoint at a path: the file, or the newest one of a folder.

    Gradients that were being accumulated are left out: a step here is a whole batch.

    Raises:
      UserError: there is none, it is damaged, or it is not of that form.
    """
    file = find_reference(path)
    tree = read_state_dict(file)
    missing = [name for name in ("step", "params", "ema_params") if name not in tree]
    if missing:
        raise UserError(
            f"{file} has no {' and no '.join(missing)} but {_few(tree)}: give a"
            " ckpt-N.flax of i-DODE or VDM."
        )
    return ReferenceCheckpoint(
        path=file,
        step=_count(tree["step"], file, "step"),
        parameters=_network(tree["params"], file, "params"),
        ema=_network(tree["ema_params"], file, "ema_params"),
        gamma=tree["params"].get(_SCHEDULE) or None,
        gamma_ema=tree["ema_params"].get(_SCHEDULE) or None,
        moments=_moments(tree.get("opt_state"), file),
    )


def find_reference(path: Path) -> Path:
    """The file that a path means: itself, or the newest of the folder.

    Raises:
      UserError: there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(
                f"There is no {path}: give a ckpt-N.flax file, or the folder that holds it."
            )
        return path
    found = {int(m[1]): file for file in path.iterdir() if (m := _FILE.fullmatch(file.name))}
    if not found:
        raise UserError(f"{path} holds no ckpt-N.flax: give such a file, or its folder.")
    return found[max(found)]


def _few(names: Collection[str]) -> str:
    """Some of the names a file has, which may be many, long and of any characters."""
    shown = [_short(name) for name in itertools.islice(names, _MAX_NAMES_SHOWN)]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "nothing"


def _short(name: str) -> str:
    if name.isprintable() and len(name) <= _MAX_NAME_SHOWN:
        return name
    return f"{name[:_MAX_NAME_SHOWN]!a}…"


def _network(tree: Any, file: Path, what: str) -> StateDict:
    """The network's own parameters, of whatever the model had."""
    # A module without parameters, such as a fixed schedule, leaves at most an empty map.
    names = (
        [name for name in tree if name != _SCHEDULE and tree[name] != {}]
        if isinstance(tree, Mapping)
        else []
    )
    if names != [_NETWORK] or not isinstance(tree[_NETWORK], Mapping):
        raise UserError(
            f"{file} has {_few(names)} in {what}, not {_NETWORK} with or"
            " without a schedule (gamma): give a ckpt-N.flax of i-DODE or VDM."
        )
    return tree[_NETWORK]


def _moments(tree: Any, file: Path) -> Moments | None:
    """Of Adam, wherever in the chain it stands."""
    if isinstance(tree, Mapping) and "inner_opt_state" in tree:
        tree = tree["inner_opt_state"]
    links = list(_adams(tree))
    if len(links) != 1:
        return None
    adam = links[0]
    return Moments(
        count=_count(adam["count"], file, "opt_state's count"),
        mu=_network(adam["mu"], file, "opt_state's mu"),
        nu=_network(adam["nu"], file, "opt_state's nu"),
    )


def _adams(tree: Any) -> Iterator[StateDict]:
    if isinstance(tree, Mapping):
        if {"count", "mu", "nu"} <= tree.keys():
            yield tree
        else:
            for link in tree.values():
                yield from _adams(link)


def _count(value: Any, file: Path, what: str) -> int:
    number = np.asarray(value)
    if number.shape or number.dtype.kind not in "iu" or not 0 <= number < 2**31:
        raise UserError(
            f"{file} has {shown(value)} as its {what}, which is no count: fetch it again."
        )
    return int(number)
