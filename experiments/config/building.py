"""From a config to the objects it describes."""

from typing import Any

import fiddle as fdl

_CONTEXT = "\n\nFiddle context:"


def build(config: fdl.Config) -> Any:
    """The objects that the config describes.

    Raises:
      UserError: a class refuses its fields.
    """
    return fdl.build(config)


def sentence(error: BaseException) -> str:
    """An error's own words, without the context that Fiddle appends while building."""
    words = str(error).partition(_CONTEXT)[0].strip()
    return words or type(error).__name__
