"""The screen and `log.txt`: sentences, and one live line of progress."""

import datetime
import logging
import os
import shutil
import sys
import threading
import time
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TextIO

from diffusion_ode.reporting.result_table import SCREEN_WIDTH

_PERIOD = 30.0  # seconds between lines of progress where there is no live line, and in log.txt
_ERASE = "\r\x1b[K"


class Console:
    """Prints to the screen and to a log file; a context.

    On a terminal progress is one line that is drawn over; elsewhere, and in the log, a line every
    half minute. Lost screens (a closed pipe) are no failure: the log goes on.

    Args:
        log: the file that everything printed is appended to, with the time; None until `log_to`.
        stream: the screen.
        period: seconds between lines of progress where they stay.
        silent: neither prints nor logs, for processes that another one speaks for.
    """

    def __init__(
        self,
        log: Path | None = None,
        stream: TextIO | None = None,
        period: float = _PERIOD,
        silent: bool = False,
    ):
        self._silent = silent
        self._stream = sys.stdout if stream is None else stream
        self._log: TextIO | None = None
        self._not_yet_logged: list[str] = []
        # Libraries log whole tracebacks for what we say in a sentence (Orbax, a failed save).
        # A handler at the root keeps them from the screen, where they go if there is none. With a
        # capacity of 1 it passes everything on at once, as soon as there is a log to pass it to.
        self._noise: MemoryHandler | None = MemoryHandler(capacity=1)
        self._noise.setLevel(logging.WARNING)
        logging.getLogger().addHandler(self._noise)
        self._live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._period = period
        self._last_kept = -float("inf")
        self._drawn = False
        self._lock = threading.RLock()
        if log is not None:
            self.log_to(log)

    def log_to(self, path: Path) -> None:
        """From now on everything is appended to this file, and what was printed before at once."""
        if self._silent:
            return
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._log = path.open("a", encoding="utf-8")
            self._log.writelines(self._not_yet_logged)
            self._log.flush()
            self._not_yet_logged.clear()
            if self._noise is not None:
                self._noise.setTarget(logging.FileHandler(path, encoding="utf-8"))
                self._noise.flush()

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def print(self, text: str = "") -> None:
        """Print lines that stay."""
        with self._lock:
            self._show((_ERASE if self._drawn else "") + text + "\n")
            self._drawn = False
            self._write_log(text)

    def progress(self, line: str) -> None:
        """Show how far it is: over the last one on a terminal, else now and then."""
        with self._lock:
            kept = time.monotonic() - self._last_kept >= self._period
            if kept:
                self._last_kept = time.monotonic()
                self._write_log(line)
            if self._live:
                columns = shutil.get_terminal_size((SCREEN_WIDTH, 24)).columns
                # A full line makes some terminals wrap.
                self._show(_ERASE + line[: columns - 1])
                self._drawn = True
            elif kept:
                self._show(line + "\n")

    def end_progress(self, line: str) -> None:
        """Leave the last line of progress on the screen, and in the log."""
        with self._lock:
            self.print(line)
            self._last_kept = -float("inf")

    def close(self) -> None:
        """End the live line and close the log; nothing must be printed afterwards."""
        with self._lock:
            if self._drawn:
                self._show("\n")
                self._drawn = False
            if self._noise is not None:
                logging.getLogger().removeHandler(self._noise)
                if (target := self._noise.target) is not None:
                    target.close()
                self._noise.close()
                self._noise = None
            if self._log is not None:
                self._log.close()
                self._log = None

    def _show(self, text: str) -> None:
        if self._silent:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            # A screen that knows no "±" shows "?" instead of ending the run.
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = _Nowhere()
            self._live = False

    def _write_log(self, text: str) -> None:
        if self._silent:
            return
        now = datetime.datetime.now().isoformat(" ", "seconds")
        lines = [f"{now}  {line}\n" for line in text.split("\n")]
        if self._log is None:
            self._not_yet_logged += lines
        else:
            self._log.writelines(lines)
            self._log.flush()


class _Nowhere:
    encoding = "utf-8"

    def write(self, _: str) -> None:
        pass

    def flush(self) -> None:
        pass
