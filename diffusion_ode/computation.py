"""Fields that say how something is computed, and not what.

A field says so itself, for example in a network of one's own:

    remat: bool = field(default=False, metadata=SAME_VALUES)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

_KEEPS = "keeps"
SAME_VALUES: Mapping[str, str] = {_KEEPS: "values"}
"""All values stay the same, to rounding."""
SAME_PARAMETERS: Mapping[str, str] = {_KEEPS: "parameters"}
"""Parameters stay of use, but values are others: a checkpoint fits, an evaluation is another."""


def keeps_values(root: Any, path: str) -> bool:
    """Whether what lies at `path`, or one of its owners, is marked with SAME_VALUES.

    Args:
      root: a dataclass or Flax module.
      path: names of fields, such as `model.network.remat`.
    """
    return _kept(root, path) == "values"


def keeps_parameters(root: Any, path: str) -> bool:
    """Whether it is marked at all; see `keeps_values`."""
    return _kept(root, path) is not None


def _kept(owner: Any, path: str) -> str | None:
    for name in path.split("."):
        fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
        field = next((field for field in fields if field.name == name), None)
        if field is None:
            return None
        if _KEEPS in field.metadata:
            return field.metadata[_KEEPS]
        owner = getattr(owner, name)
    return None
