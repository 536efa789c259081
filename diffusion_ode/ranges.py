"""The ranges of numbers, declared where a field is: `decay: Fraction = 0.99`.

Constructors, `--set` and whatever reads a config check by this one declaration. A field of one's
own has its range as `Annotated[float, Within(0, 1)]`, or one of the names below.
"""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Within:
    """The numbers between two ends; NaN is in no range.

    Args:
      low, high: the ends.
      ends: in the notation of intervals: "[)" is with the lower and without the upper end.
      multiple_of: only the multiples of it.
    """

    low: int
    high: int
    ends: str = "[]"
    multiple_of: int = 1

    def __contains__(self, number: float) -> bool:
        above = self.low < number or (self.ends[0] == "[" and number == self.low)
        below = number < self.high or (self.ends[1] == "]" and number == self.high)
        whole = self.multiple_of == 1 or number % self.multiple_of == 0
        return above and below and whole

    def __str__(self) -> str:
        multiples = "" if self.multiple_of == 1 else f", a multiple of {self.multiple_of}"
        return f"in {self.ends[0]}{self.low}, {self.high}{self.ends[1]}{multiples}"


_MOST = 2**31 - 1  # as far as the integers of devices count


def is_count(text: str) -> bool:
    """Whether it is a whole number that those integers come to."""
    return text.isdecimal() and len(text) <= len(str(_MOST)) and int(text) <= _MOST


_LARGEST = 10**6  # of rates, weights, tolerances: beyond any of use, and float32 has its square

Count = Annotated[int, Within(1, _MOST)]
CountFromZero = Annotated[int, Within(0, _MOST)]
Seed = Annotated[int, Within(0, 2**32 - 1)]
"""JAX and Grain take 32 bits."""
LevelCount = Annotated[int, Within(2, 2**16)]
"""How many values a channel of an image has."""

Share = Annotated[float, Within(0, 1)]
Fraction = Annotated[float, Within(0, 1, "[)")]
Positive = Annotated[float, Within(0, _LARGEST, "(]")]
NonNegative = Annotated[float, Within(0, _LARGEST)]
Gamma = Annotated[float, Within(-80, 80)]
"""Minus the logarithm of a signal-to-noise ratio that float32 still holds."""

Blocks = Annotated[int, Within(1, 256)]
"""Of a network; each is traced, which takes a hundredth of a second."""
Draws = Annotated[int, Within(1, 10_000)]
"""For one image; on a CPU each is a call."""
Width = Annotated[int, Within(1, 2**16)]
"""Of a network's layer."""
Exponent = Annotated[int, Within(-20, 20)]
"""Of a Fourier feature, of which float32 holds the phase."""
