"""The rules that many settings share."""

import math
from typing import Any

from diffusion_ode.errors import UserError


def check_count(name: str, value: Any, remedy: str = "give a whole number of at least 1") -> None:
    """Refuses what is no whole number of at least 1: fractions, NaN and truth values too.

    Raises:
      UserError: with value, rule and remedy.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 1:
        rule = "is below 1" if whole else "is not a whole number"
        raise UserError(f"{name} = {value} {rule}: {remedy}.")


def check_finite(name: str, value: float, remedy: str = "give a finite number") -> None:
    """Refuses NaN and infinity.

    Raises:
      UserError: with value, rule and remedy.
    """
    if not math.isfinite(value):
        raise UserError(f"{name} = {value} is not finite: {remedy}.")
