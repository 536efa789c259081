"""The one exception that means: the user can mend this; and what a sentence shows of a value."""

import re

MOST_SHOWN = 200  # characters of a value
_LONG = re.compile(  # one word, or what is between quotes, which an apostrophe does not open
    rf"\S{{{MOST_SHOWN + 1},}}|(?<!\w)(['\"`])(?:(?!\1).){{{MOST_SHOWN},}}\1(?!\w)", re.DOTALL
)


class UserError(ValueError):
    """A mistake of the user's.

    Its text is one sentence that gives the value, the rule it broke and the remedy. The launcher
    prints it without a traceback and exits with status 2. Of a value that is longer it shows
    `MOST_SHOWN` characters, both ends, and the end of a line, which a name in a file may have, as
    Python writes it.
    """

    def __init__(self, sentence: object = ""):
        super().__init__(shortened(sentence).replace("\n", r"\n"))


def shortened(text: object) -> str:
    """The text with what is longer than `MOST_SHOWN` in one word, or in quotes, cut in its middle.

    What no terminal should be sent, such as the codes that move its cursor, is shown by number.
    """
    plain = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in str(text))
    return _LONG.sub(lambda found: _cut(found[0]), plain)


def in_words(error: BaseException) -> str:
    """What an exception says, on one line and in a sentence's length."""
    if isinstance(error, MemoryError):
        return "there is not memory enough for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = shortened(error).strip().splitlines()
    said = _cut(lines[0]) if lines else ""
    if not said or isinstance(error, LookupError | TypeError | AttributeError):
        return f"{type(error).__name__}: {said}" if said else type(error).__name__
    return said


def _cut(text: str) -> str:
    if len(text) <= MOST_SHOWN:
        return text
    half = (MOST_SHOWN - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
