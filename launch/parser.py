"""The command line's parser: wrong flags meet a sentence of ours."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from diffusion_ode.command_line import SentenceParser
from diffusion_ode.errors import UserError
from diffusion_ode.suggestions import nearest
from launch.screen import SCREEN_WIDTH, show


class Parser(SentenceParser):
    """A parser that raises UserError, as wide as the screen, and takes flags only in full.

    Args:
      prog, usage, description, epilog, add_help: as argparse has them.
      word: what a word that belongs to no flag may have been meant as.
    """

    def __init__(
        self,
        prog: str,
        usage: str,
        description: str,
        epilog: str,
        add_help: bool = True,
        word: Callable[[str], str] = lambda _: "--help shows the flags.",
    ):
        self._word = word
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

    def parse_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise UserError(self._unexpected(unknown, args))
        return given

    def _unexpected(self, unknown: Sequence[str], args: Sequence[str]) -> str:
        """The sentence for what no flag takes, by what stands before it."""
        argument = unknown[0]
        name, equals, _ = argument.partition("=")
        known = [option for action in self._actions for option in action.option_strings]
        if name.startswith("-"):
            dashed = "--" + name.lstrip("-").replace("-", "_")
            near = nearest(dashed, [option for option in known if option.startswith("--")])
            meant = f"did you mean {near[0]}?" if near else "--help shows the flags"
            if not near and "." in dashed:
                meant = f"config fields are set by --set {argument.lstrip('-')}"
            return f"There is no flag {name}; {meant}"
        before = args[: args.index(argument)]
        flags = [k for k, each in enumerate(before) if each.startswith("--")]
        flag, _, value = before[flags[-1]].partition("=") if flags else ("", "", "")
        value = value or "".join(before[flags[-1] + 1 :][:1] if flags else [])
        several = [a.metavar for a in self._actions if flag in a.option_strings]
        if not name or (before and before[-1].endswith("=")):
            meant = "write --set PATH=VALUE without spaces around =."
        elif f"--{name}" in known:
            meant = f"did you mean --{argument}?"
        elif equals:
            flag = flag if flag == "--grid" else "--set"
            meant = f"each setting has a {flag} of its own: {flag} {shlex.quote(argument)}."
        elif value and several and "," in str(several[0]):
            whole = shlex.quote(",".join([value, *unknown]))
            meant = f"values are separated by commas: {flag}={whole}."
        else:
            meant = self._word(argument)
        return f"Unexpected argument {argument!r}: {meant}"

    def print_help(self, file=None):
        del file  # argparse asks for none, and would not say that nobody can read it
        sys.exit(show(self.format_help().splitlines()))

    def answer_shell(self) -> None:
        """Ends the process if a shell has started it only to ask what may follow."""
        if "_ARGCOMPLETE" in os.environ:
            from launch.completing import complete

            complete(self)
