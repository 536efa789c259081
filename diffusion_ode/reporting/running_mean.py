"""A mean that grows as results come in."""

import math
from collections.abc import Iterable

from diffusion_ode.reporting.quantities import with_error


class RunningMean:
    """Mean and standard error of values given one by one, without keeping them (Welford 1962)."""

    def __init__(self, values: Iterable[float] = ()):
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        for value in values:
            self.add(float(value))

    def add(self, value: float) -> None:
        self._count += 1
        off = value - self._mean
        self._mean += off / self._count
        self._squares += off * (value - self._mean)

    def in_words(self) -> tuple[str, ...]:
        """Says `2.153 ± 0.012 bpd`, once there are two values."""
        if self._count < 2:
            return ()
        error = math.sqrt(self._squares / (self._count - 1) / self._count)
        return (f"{with_error(self._mean, error, 3)} bpd",)
