"""What an interruption does while there is nothing to save and nobody to tell: it ends at once.

Libraries that are being imported would make of a KeyboardInterrupt what they like.
"""

# What `signal` wraps in enums, whose import would take longer than all that comes before it.
import _signal as signal  # pyright: ignore[reportMissingImports]
import os
import sys

from diffusion_ode.exit_statuses import FAILED, INTERRUPTED

TYPE_CHECKING = False  # as in `diffusion_ode`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_at_once() -> None:
    """From now on an interruption is a sentence and the end."""
    for one in _SIGNALS:
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, _leave)


def leave_in_order() -> None:
    """From now on it is a KeyboardInterrupt again."""
    for one in _SIGNALS:
        if signal.getsignal(one) is _leave:
            signal.signal(one, signal.default_int_handler)


def leave_with(status: "str | int | None") -> "NoReturn":
    """All is done or said: ends the program, whatever comes while Python takes itself apart.

    Args:
      status: as `sys.exit` takes it.
    """
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(status)


def status_of(main: "Callable[[], int]") -> "str | int | None":
    """What a program's main function returns; of what it raises a sentence, and its status."""
    try:
        return main()
    except SystemExit as end:  # after the help
        return end.code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        from diffusion_ode.errors import say_unforeseen

        say_unforeseen(error)
        return FAILED


def _leave(*_: object) -> None:
    os.write(2, b"Interrupted; run the same command to go on.\n")
    os._exit(INTERRUPTED)
