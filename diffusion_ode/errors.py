"""The one exception that means: the user can mend this; and what a sentence shows of a value."""

import re
import sys
from itertools import takewhile

MOST_SHOWN = 200  # characters of a value
MOST_SAID = 1000  # characters of a sentence, however many values it has
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
        super().__init__(on_one_line(sentence))


def shortened(text: object) -> str:
    """The text with every value that is longer than `MOST_SHOWN` cut in its middle.

    A value is one word, what is in quotes, and what the command line has, spaces and all. What
    then still has more than `MOST_SAID` characters is cut, too, and what no terminal should be
    sent, such as the codes that move its cursor, is shown by number.
    """
    said = _LONG.sub(lambda found: _cut(found[0]), printable(text, "\n\t"))
    for argument in sys.argv:
        said = _without(said, argument)
    return _cut(said, MOST_SAID)


def on_one_line(text: object) -> str:
    """The same without ends of lines and tabs, which are shown as Python writes them."""
    return printable(shortened(text))


def printable(text: object, as_they_are: str = "") -> str:
    """The text, in which all that is no sign, but for some, is shown as Python writes it."""
    return "".join(c if c.isprintable() or c in as_they_are else ascii(c)[1:-1] for c in str(text))


def is_utf8(text: str) -> bool:
    """Whether it can be written down: names on disk, which a command line has, may be any bytes."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def say_unforeseen(error: BaseException) -> None:
    """Shows what the program should not have come to: a sentence, and the traceback after it."""
    import traceback

    reason = shortened(error).lstrip().partition("\n")[0]
    print(
        f"{type(error).__name__}: {reason}; the program should not have come to this: report it"
        " with the traceback that follows.",
        file=sys.stderr,
    )
    traceback.print_exception(error)


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


def _without(said: str, argument: str) -> str:
    """What is said, with all that it repeats of an argument cut."""
    start = 0 if len(argument) > MOST_SHOWN else len(said)
    while start + MOST_SHOWN < len(said):
        at = argument.find(said[start : start + MOST_SHOWN + 1])
        if at < 0:
            start += 1
            continue
        pairs = zip(said[start:], argument[at:], strict=False)
        end = start + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        shown = _cut(said[start:end])
        said = said[:start] + shown + said[end:]
        start += len(shown)
    return said


def _cut(text: str, most: int = MOST_SHOWN) -> str:
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
