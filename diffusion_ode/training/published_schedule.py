"""The schedule that a published checkpoint has learned."""

import base64
from collections.abc import Mapping

import numpy as np

from diffusion_ode.checkpoints.reference import ReferenceCheckpoint
from diffusion_ode.diffusion.monotone_network_schedule import (
    LearnedLinearSchedule,
    MonotoneNetworkSchedule,
)
from diffusion_ode.diffusion.schedule import NoiseSchedule
from diffusion_ode.errors import UserError

_SCALAR = {"b": 1, "w": 1}
_NETWORK = {
    "l1/kernel": (1, 1),
    "l1/bias": (1,),
    "l2/kernel": (1, 1024),
    "l2/bias": (1024,),
    "l3/kernel": (1024, 1),
}


def published_schedule(found: ReferenceCheckpoint) -> NoiseSchedule | None:
    """That of the averaged parameters; None if the file has learned none.

    Raises:
      UserError: it is of neither published form, not finite, or does not grow.
    """
    if found.gamma is None:
        return None
    values = {}
    for name, value in dict(found.gamma if isinstance(found.gamma, Mapping) else {}).items():
        inner = value if isinstance(value, Mapping) else {"": value}
        values |= {f"{name}/{key}".rstrip("/"): np.asarray(x) for key, x in inner.items()}
    scalar = {name: value.size for name, value in values.items()} == _SCALAR
    if not scalar and {name: value.shape for name, value in values.items()} != _NETWORK:
        raise UserError(
            f"{found.path} has a gamma of another form than VDM's scalar (b, w) or network (l1, l2,"
            " l3 of 1024 features): give a checkpoint with one of these."
        )
    if not all(x.dtype.kind == "f" and np.all(np.isfinite(x)) for x in values.values()):
        raise UserError(f"{found.path} has values in gamma that are not finite: fetch it again.")
    try:
        if scalar:
            b, w = (float(values[name].reshape(())) for name in "bw")
            return LearnedLinearSchedule(b, b + abs(w))
        numbers = np.concatenate([values[name].ravel() for name in _NETWORK]).astype("<f4")
        return MonotoneNetworkSchedule(base64.b64encode(numbers.tobytes()).decode())
    except UserError as error:
        raise UserError(f"{found.path} has a gamma that is no schedule: {error}") from error
