"""How far a task is: done of total, speed, and the time left."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator

from diffusion_ode.reporting.console import Console

_WINDOW = 60.0  # seconds over which the speed is averaged
_REDRAW = 0.2  # seconds between two drawings of the live line
_AT_ONCE = 1.0  # seconds within which what comes counts as come at once


class Progress:
    """Shows `step 1200/5000 · 2.153 bpd · 3.1k images/s · 4 min left` on a console.

    The first call starts the clock: what came before (compilation) does not count as slowness.

    Args:
        console: where it is shown.
        noun: what is counted, e.g. `step` or `image`.
        total: how many there will be.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        console: Console,
        noun: str,
        total: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._console = console
        self._noun = noun
        self._total = total
        self._clock = clock
        self._paused = 0.0
        self._seen: deque[tuple[float, int]] = deque()
        self._drawn = -float("inf")
        self._line = ""

    def update(self, done: int, *details: str) -> None:
        """Note that `done` of the total are done; `details` are shown between, e.g. `2.15 bpd`."""
        now = self._clock() - self._paused
        # Of a batch that comes at once the first counts: from it to the next one's is its time.
        if not self._seen or now - self._seen[-1][0] >= _AT_ONCE:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        left = self._seconds_left(done)
        parts = [f"{self._noun} {done}/{self._total}", *details]
        if left is not None:
            parts.append(f"{duration(left)} left")
        self._line = " · ".join(parts)
        if now - self._drawn >= _REDRAW:
            self._drawn = now
            self._console.progress(self._line)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Stops the clock: what happens meanwhile is no part of the speed."""
        begin = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - begin

    def end(self) -> None:
        """Leave the last state on the screen."""
        if self._line:
            self._console.end_progress(self._line)

    def speed(self) -> float | None:
        """Of what is counted, per second, over the last minute; None before the second call."""
        if not self._seen:
            return None
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - begin) if end > begin and last > first else None

    def _seconds_left(self, done: int) -> float | None:
        speed = self.speed()
        return (self._total - done) / speed if speed and done < self._total else None


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `4 min`, `2 h 05 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def rate(per_second: float) -> str:
    """A rate in three digits: `0.82`, `85.3`, `3.1k`."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if per_second >= 0.9995 * size:  # which three digits would round up to it
            return f"{per_second / size:.3g}{sign}"
    return f"{per_second:.3g}"
