"""Streams that end no run: closed, full, or of few letters."""

import codecs
import contextlib
import os
from typing import Any, TextIO

_SPELT = {
    **dict.fromkeys("µμ", "u"),
    **dict.fromkeys("–—−─", "-"),
    "±": "+/-",
    "×": "x",
    "…": "...",
    "·": "*",
    "≥": ">=",
    "≤": "<=",
    "→": "->",
}


def _spell(error: UnicodeError) -> tuple[str, int]:
    """In the place of what an encoding does not know: `_SPELT`, else question marks."""
    assert isinstance(error, UnicodeEncodeError)
    unknown = error.object[error.start : error.end]
    return "".join(_SPELT.get(letter, "?") for letter in unknown), error.end


codecs.register_error("spell", _spell)


class LastingStream:
    """A text stream that goes on when it can no longer be written to; what comes then is lost.

    What its encoding does not know is spelt, such as ± in ASCII as +/-, or becomes a question mark.

    Args:
      stream: None if the process was started with it closed.

    Attributes:
      failure: why it can no longer be written to, if so.
    """

    def __init__(self, stream: TextIO | None):
        self._stream: Any = open(os.devnull, "w") if stream is None else stream  # noqa: PTH123, SIM115
        self.failure: Exception | None = None
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="spell")

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # what was not written is tried once more
            self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, act) -> None:
        if self.failure is None:
            try:
                act()
            except (OSError, ValueError) as failure:  # a closed file's is a ValueError
                self.failure = failure
