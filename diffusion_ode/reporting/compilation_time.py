"""How long programs were compiled: no part of a speed."""

import threading
import time
from typing import Any

import jax

_COMPILING = "/jax/core/compile/"  # tracing, lowering, and the compiler or its cache


class CompilationTime:
    """Counts the seconds in which JAX compiles; a context.

    Steps that contain others (a traced function that traces another) are counted once.
    """

    def __init__(self):
        self._spans: list[tuple[float, float]] = []  # disjoint, in order of time
        self._lock = threading.Lock()

    def __enter__(self) -> "CompilationTime":
        jax.monitoring.register_event_duration_secs_listener(self._ended)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._ended)

    @property
    def seconds(self) -> float:
        """So far, without the step under way."""
        with self._lock:
            return sum((end - begin for begin, end in self._spans), 0.0)

    def _ended(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith(_COMPILING):
            now = time.perf_counter()
            begin = now - duration_secs
            with self._lock:
                while self._spans and self._spans[-1][1] > begin:
                    begin = min(begin, self._spans.pop()[0])
                self._spans.append((begin, now))
