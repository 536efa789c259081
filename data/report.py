"""Who is told what is going on while a data set is prepared."""

import sys
from collections.abc import Callable

from diffusion_ode.errors import printable

Report = Callable[[str], None]


def say(message: str) -> None:
    """To whoever looks at the screen."""
    print(printable(message), file=sys.stderr, flush=True)
