"""The schedule that a published checkpoint has learned, as parameters of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffusion_ode.checkpoints.reference import ReferenceCheckpoint
from diffusion_ode.checkpoints.state_dict import StateDict
from diffusion_ode.diffusion.learned_schedule import (
    LearnedMonotoneSchedule,
    LearnedScalarSchedule,
    LearnedSchedule,
)
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.errors import UserError

_FEATURES = 1024  # of the published network, which also divides its sum
_SCALAR = {"b": 1, "w": 1}
_NETWORK = {
    "l1/kernel": (1, 1),
    "l1/bias": (1,),
    "l2/kernel": (1, _FEATURES),
    "l2/bias": (_FEATURES,),
    "l3/kernel": (_FEATURES, 1),
}


class PublishedSchedule(NamedTuple):
    """Which of ours it is, learned by the plain gradient as it was there; its parameters, ours too.

    The network's form is γ(t) = g(t) + b1, with the g of `LearnedMonotoneSchedule`: its end points
    are then γ(0) and γ(1), and its interior is that of g.
    """

    learned: LearnedSchedule
    parameters: Mapping[str, Any]
    ema: Mapping[str, Any]


def published_schedule(found: ReferenceCheckpoint) -> PublishedSchedule | None:
    """That of the file; None if it has learned none.

    Raises:
      UserError: it is of neither published form, not finite, or does not grow.
    """
    if found.gamma_ema is None:
        return None
    kinds, parts = zip(
        *(_ours(part, found.path) for part in (found.gamma, found.gamma_ema)), strict=True
    )
    if kinds[0] != kinds[1]:
        raise UserError(f"{found.path} has two forms of gamma: give another file.")
    return PublishedSchedule(kinds[0], *parts)


def _ours(gamma: StateDict | None, path: Path) -> tuple[LearnedSchedule, Mapping[str, Any]]:
    values = {}
    for name, value in dict(gamma if isinstance(gamma, Mapping) else {}).items():
        inner = value if isinstance(value, Mapping) else {"": value}
        values |= {f"{name}/{key}".rstrip("/"): np.asarray(x) for key, x in inner.items()}
    scalar = {name: value.size for name, value in values.items()} == _SCALAR
    if not scalar and {name: value.shape for name, value in values.items()} != _NETWORK:
        raise UserError(
            f"{path} has a gamma of another form than VDM's scalar (b, w) or network (l1, l2,"
            " l3 of 1024 features): give a checkpoint with one of these."
        )
    if not all(x.dtype.kind == "f" and np.all(np.isfinite(x)) for x in values.values()):
        raise UserError(f"{path} has values in gamma that are not finite: fetch it again.")
    values = {name: value.astype(np.float64).ravel() for name, value in values.items()}
    if scalar:
        (gamma_0,), (change,) = values["b"], np.abs(values["w"])
        return LearnedScalarSchedule(), {"ends": _ends(gamma_0, gamma_0 + change, path)}
    shape = {
        "l1": values["l1/kernel"].reshape(()),
        "l2": {"kernel": values["l2/kernel"], "bias": values["l2/bias"]},
        "l3": values["l3/kernel"],
    }
    first, last = (_growth(values, time) + values["l1/bias"][0] for time in (0.0, 1.0))
    learned = LearnedMonotoneSchedule(by_variance=False, features=_FEATURES)
    return learned, {"ends": _ends(first, last, path), "shape": shape}


def _growth(values: Mapping[str, np.ndarray], time: float) -> float:
    """The g(t) of a network in float64."""
    hidden = np.tanh(np.abs(values["l2/kernel"]) * (time - 0.5) + 0.5 * values["l2/bias"])
    return float(
        np.abs(values["l1/kernel"][0]) * time + np.mean(np.abs(values["l3/kernel"]) * hidden)
    )


def _ends(gamma_0: float, gamma_1: float, path: Path) -> Mapping[str, np.ndarray]:
    try:
        LinearSchedule(float(gamma_0), float(gamma_1))
    except UserError as error:
        raise UserError(f"{path} has a gamma that is no schedule: {error}") from error
    return {"b": np.asarray(gamma_0), "w": np.asarray(gamma_1 - gamma_0)}
