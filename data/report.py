"""Who is told what is going on while a data set is prepared."""

import sys
from collections.abc import Callable

Report = Callable[[str], None]


def say(message: str) -> None:
    """To whoever looks at the screen."""
    print(message, file=sys.stderr, flush=True)
