"""Reads recordings and published checkpoints: arrays by name, and nothing executed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import flax.serialization
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Arrays = Mapping[str, np.ndarray]


class MalformedRecording(Exception):
    """A file that is not what it should be; the text is a sentence for the user."""


class _Case(dict):
    """The arrays of one case by their last name."""

    def __missing__(self, name):
        raise MalformedRecording(f"a case of the recording lacks {name!r} beside {list(self)}")


@dataclass(frozen=True)
class Recording:
    """The arrays of a recording under their names, such as `drift/VP_velocity/z`."""

    arrays: Arrays

    @property
    def images(self) -> np.ndarray:
        return self.arrays["images"]

    def cases(self, group: str) -> dict[str, Arrays]:
        """{"VP_velocity": {"z": …}, …} for the group "drift"."""
        found: dict[str, _Case] = {}
        for name, array in self.arrays.items():
            parts = name.split("/")
            if parts[0] == group and len(parts) == 3:
                found.setdefault(parts[1], _Case())[parts[2]] = array
        return found

    def parameters(self, name: str) -> Any:
        """A tree of network parameters from `params_NAME/score_model/…`."""
        prefix = f"params_{name}/score_model/"
        leaves = {
            tuple(key.removeprefix(prefix).split("/")): array
            for key, array in self.arrays.items()
            if key.startswith(prefix)
        }
        if not leaves:
            raise MalformedRecording(f"the recording has no parameters under {prefix!r}")
        try:
            return unflatten_dict(leaves)
        except (TypeError, ValueError, AttributeError) as problem:
            raise MalformedRecording(f"{prefix!r} names an array inside an array") from problem


def read_recording(path: Path) -> Recording:
    try:
        with np.load(path, allow_pickle=False) as file:
            recording = Recording({name: file[name] for name in file.files})
    except (OSError, EOFError, ValueError, TypeError, AttributeError, BadZipFile) as problem:
        raise MalformedRecording(f"{path} is not a readable npz of arrays: {problem}") from problem
    if "images" not in recording.arrays:
        raise MalformedRecording(f"{path} holds no array named 'images'")
    return recording


def read_checkpoint(path: Path) -> Any:
    """The EMA parameters of a published checkpoint."""
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
        parameters = tree["ema_params"]["score_model"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as problem:
        raise MalformedRecording(
            f"{path} is not a flax checkpoint with ema_params: {problem!r}"
        ) from problem
    leaves = flatten_dict(parameters).values() if isinstance(parameters, dict) else ()
    if not leaves or not all(isinstance(leaf, np.ndarray) for leaf in leaves):
        raise MalformedRecording(f"{path} holds no tree of arrays under ema_params/score_model")
    return parameters


def shapes(parameters: Any) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {name: array.shape for name, array in flatten_dict(parameters).items()}
