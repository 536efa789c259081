"""Quantities as people read them: three digits and a unit that fits, a value and its error."""

from collections.abc import Sequence

from diffusion_ode.reporting.progress import duration

_NAMED = 4  # images of five digits each, with a count, fit beside a label
_THOUSANDS = ("", "k", "M", "G", "T", "P")
_MINUTE, _HOUR = 60.0, 3600.0


def data_size(size: float) -> str:
    """Bytes: `4.9 kB`, `122 MB`, `10.7 GB`; thousands, not 1024s, as makers state memories."""
    return _scaled(size, "B", "G")


def operations(number: float) -> str:
    """Floating-point operations: `7.28 GFLOP`, `39.7 TFLOP`."""
    return _scaled(number, "FLOP", "P")


def short_time(seconds: float) -> str:
    """A step's time: `299 µs`, `44.5 ms`, `2.15 s`; from a minute on as `duration` says it."""
    if seconds >= _MINUTE:
        return duration(seconds)
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= 0.9995 * size:  # which three digits would round up to it
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds * 1e6)} µs"


def hours(seconds: float) -> str:
    """Of many devices together: `47,808 h`, `43.1 h`, below an hour as `short_time` says it."""
    number = seconds / _HOUR
    return f"{_three_digits(number)} h" if number >= 0.9995 else short_time(seconds)


def with_error(value: float, standard_error: float, digits: int = 4) -> str:
    """A value and its standard error, e.g. `2.1470 ± 0.0121`."""
    return f"{value:.{digits}f} ± {standard_error:.{digits}f}"


def counted(number: int, what: str) -> str:
    """The number of something: `1 step`, `20 steps`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def some_images(indices: Sequence[int]) -> str:
    """Names the first few images, and counts the others: `images 3, 7, 12, 40 and 5 more`."""
    few = ", ".join(map(str, indices[:_NAMED]))
    more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
    return f"image{'s' if len(indices) > 1 else ''} {few}{more}"


def _scaled(number: float, unit: str, largest: str) -> str:
    signs = _THOUSANDS[: _THOUSANDS.index(largest) + 1]
    power = 0
    while power < len(signs) - 1 and number >= 0.9995 * 1000.0 ** (power + 1):
        power += 1
    return f"{_three_digits(number / 1000.0**power)} {signs[power]}{unit}"


def _three_digits(number: float) -> str:
    """Digits as in `0.842`, `10.7`, `122` or `47,808`: a unit is chosen, so never an exponent."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"
