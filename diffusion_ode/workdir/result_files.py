"""Result files that are whole or absent."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.foreign import parsed_json, read_regular, refused
from diffusion_ode.workdir.files import replace_atomically

# The longest that is written names every image of ImageNet as one that has not converged: 20 MB.
MAX_BYTES, MAX_ITEMS = 1 << 25, 1 << 21


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    NumPy scalars and arrays become numbers and lists, paths become text.

    Raises:
        ValueError: a number is not finite, which JSON cannot say.
        TypeError: something is not JSON.
    """
    text = json.dumps(content, indent=2, allow_nan=False, default=_plain)
    with replace_atomically(path) as file:
        file.write(text + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} is not JSON")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        UserError: there is no such file or it is not JSON.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: run the task that writes it first.")
    with refused(lambda why: f"{path} is not JSON ({why}): restore or remove it."):
        content = read_regular(path, MAX_BYTES)
        return parsed_json(content, MAX_ITEMS, parse_constant=_finite, parse_float=_finite)


def _finite(number: str) -> float:
    """As `write_json` writes it: JSON has no others, but Python's reader has."""
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is no finite number")
    return float(number)
