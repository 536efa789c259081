"""How a launch leaves quietly."""

import sys


def quiet_about_closed_loops(unraisable: "sys.UnraisableHookArgs") -> None:
    """An unraisablehook: TensorStore's threads report a file's failure to asyncio loops that have
    ended with the first failure, which is the one that is told, and show a traceback for each.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)
