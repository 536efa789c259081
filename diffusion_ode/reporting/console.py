"""The screen and `log.txt`: sentences, and one live line of progress."""

import datetime
import logging
import sys
import threading
import time
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TextIO

import rich.console
from rich.live import Live
from rich.text import Text

from diffusion_ode.streams import LastingStream

_PERIOD = 30.0  # seconds between lines of progress where there is no live line, and in log.txt


class Screen(rich.console.Console):
    """Rich's console as this program uses it: text as it is, no colours, no control codes in files.

    It is as wide as the terminal, 80 columns elsewhere; a loss of the stream is no failure.

    Args:
      stream: by default standard output.
      quiet: shows nothing.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False):
        file = LastingStream(stream or sys.stdout)
        super().__init__(
            file=file,  # pyright: ignore[reportArgumentType] — it has all that Rich asks for
            force_terminal=file.isatty(),
            quiet=quiet,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def show_cursor(self, show: bool = True) -> bool:
        """Never hides it: a process that leaves in a hurry could not bring it back."""
        return False


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
        self._screen = Screen(stream, quiet=silent)
        self._live: Live | None = None
        self._log: LastingStream | None = None
        self._not_yet_logged: list[str] = []
        # Libraries log whole tracebacks for what we say in a sentence (Orbax, a failed save).
        # A handler at the root keeps them from the screen, where they go if there is none. With a
        # capacity of 1 it passes everything on at once, as soon as there is a log to pass it to.
        self._noise: MemoryHandler | None = MemoryHandler(capacity=1)
        self._noise.setLevel(logging.WARNING)
        logging.getLogger().addHandler(self._noise)
        self._period = period
        self._last_kept = -float("inf")
        self._lock = threading.RLock()
        if log is not None:
            self.log_to(log)

    def log_to(self, path: Path) -> None:
        """From now on everything is appended to this file, and what was printed before at once."""
        if self._silent:
            return
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            # What is lost on a full disk is no reason to stop: a checkpoint that is lost will be.
            self._log = LastingStream(path.open("a", encoding="utf-8", errors="backslashreplace"))
            self._log.write("".join(self._not_yet_logged))
            self._log.flush()
            self._not_yet_logged.clear()
            if self._noise is not None:
                self._noise.setTarget(logging.StreamHandler(self._log))
                self._noise.flush()

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def print(self, text: str = "") -> None:
        """Print lines that stay."""
        with self._lock:
            self._screen.print(text, soft_wrap=True)
            self._write_log(text)

    def progress(self, line: str) -> None:
        """Show how far it is: over the last one on a terminal, else now and then."""
        with self._lock:
            kept = time.monotonic() - self._last_kept >= self._period
            if kept:
                self._last_kept = time.monotonic()
                self._write_log(line)
            if self._screen.is_interactive:
                if self._live is None:
                    self._live = Live(
                        console=self._screen,
                        auto_refresh=False,
                        redirect_stdout=False,
                        redirect_stderr=False,
                    )
                    self._live.start()
                self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
            elif kept:
                self._screen.print(line, soft_wrap=True)

    def end_progress(self, line: str) -> None:
        """Leave the last line of progress on the screen, and in the log."""
        with self._lock:
            self._last_kept = -float("inf")
            self.progress(line)
            self._last_kept = -float("inf")
            self._end_live()

    def close(self) -> None:
        """End the live line and close the log; nothing must be printed afterwards."""
        with self._lock:
            self._end_live()
            if self._noise is not None:
                logging.getLogger().removeHandler(self._noise)
                if (target := self._noise.target) is not None:
                    target.close()
                self._noise.close()
                self._noise = None
            if self._log is not None:
                self._log.close()
                self._log = None

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _write_log(self, text: str) -> None:
        if self._silent:
            return
        now = datetime.datetime.now().isoformat(" ", "seconds")
        lines = [f"{now}  {line}\n" for line in text.split("\n")]
        if self._log is None:
            self._not_yet_logged += lines
        else:
            self._log.write("".join(lines))
            self._log.flush()
