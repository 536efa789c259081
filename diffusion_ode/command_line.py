"""What every program's command line shares: wrong flags meet a sentence of ours."""

import argparse
from collections.abc import Callable

from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Within


class SentenceParser(argparse.ArgumentParser):
    """A parser that raises UserError, and neither shows its usage nor ends the process."""

    def error(self, message: str):
        raise UserError(f"{message[:1].upper()}{message[1:]}; --help shows the flags.")


def whole_number(within: Within) -> Callable[[str], int]:
    """The type of a flag that takes a whole number of a range, for argparse."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # so it is, too, of more digits than Python reads
            number = None
        if number is None or number not in within:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {within}: give one")
        return number

    return read
