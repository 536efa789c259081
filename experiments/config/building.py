"""From a config to the objects it describes."""

import re
from typing import Any

import fiddle as fdl

from diffusion_ode.errors import UserError

_CONTEXT = "\n\nFiddle context:"
_PLACE = re.compile(r"at <root>\.(\S+)")


def build(config: fdl.Config) -> Any:
    """The objects that the config describes.

    Raises:
      UserError: a class refuses its fields, or a library's function does.
    """
    try:
        return fdl.build(config)
    except UserError:
        raise
    except Exception as error:
        found = _PLACE.search(str(error))
        at = found[1] if found else "The config"
        raise UserError(
            f"{at} cannot be made ({type(error).__name__}: {sentence(error)}): give other values."
        ) from error


def sentence(error: BaseException) -> str:
    """An error's own words, without the context that Fiddle appends while building."""
    words = str(error).partition(_CONTEXT)[0].strip()
    return words or type(error).__name__
