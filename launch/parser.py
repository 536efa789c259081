"""The command line's parser: wrong flags meet a sentence of ours."""

import argparse
import os
import sys

from diffusion_ode.errors import UserError
from launch.screen import SCREEN_WIDTH, show


class Parser(argparse.ArgumentParser):
    """A parser that raises UserError, as wide as the screen, and takes flags only in full.

    Args:
      prog, usage, description, epilog, add_help: as argparse has them.
    """

    def __init__(self, prog: str, usage: str, description: str, epilog: str, add_help: bool = True):
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            add_help=add_help,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=22, width=SCREEN_WIDTH
            ),
            allow_abbrev=False,  # a typing mistake in a script must not pass for another flag
        )

    def print_help(self, file=None):
        del file  # argparse asks for none, and would not say that nobody can read it
        sys.exit(show(self.format_help().splitlines()))

    def error(self, message: str):
        raise UserError(f"{message[:1].upper()}{message[1:]}; --help shows the flags.")

    def answer_shell(self) -> None:
        """Ends the process if a shell has started it only to ask what may follow."""
        if "_ARGCOMPLETE" in os.environ:
            from launch.completing import complete

            complete(self)
