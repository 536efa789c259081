"""Copy a workdir to remote storage, or from there into a new folder.

python -m diffusion_ode.tools.mirror runs/digits_vp gs://bucket/runs/digits_vp
python -m diffusion_ode.tools.mirror gs://bucket/runs/digits_vp runs/digits_vp
"""

# Before all other imports: a Ctrl-C may come in any of them.
if __name__ == "__main__":
    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import sys
from collections.abc import Sequence

from diffusion_ode.command_line import SentenceParser
from diffusion_ode.errors import UserError, in_words
from diffusion_ode.exit_statuses import DONE, REFUSED
from diffusion_ode.home import expanded, url_of
from diffusion_ode.leaving import leave_in_order, leave_with, status_of
from diffusion_ode.remote import download, upload
from diffusion_ode.streams import LastingStream


def mirror(source: str, target: str) -> str:
    """Copies, and says what.

    Args:
      source: a workdir, or an address in remote storage.
      target: the other one of the two; a folder of this machine is made.

    Raises:
      UserError: neither or both are in remote storage, or it cannot be copied.
    """
    there, here = url_of(target), url_of(source)
    if (there is None) == (here is None):
        both = "Both" if here else "Neither"
        raise UserError(
            f"{both} of {source} and {target} are in remote storage: give a folder of this machine"
            " and an address such as gs://bucket/runs/digits_vp."
        )
    if here:
        count = download(here, expanded(target))
        return f"{count} files of {here} are in {target}"
    run = expanded(source)
    if not run.is_dir():
        raise UserError(f"{run} is no folder: give the workdir of a run.")
    count, size = upload(run, str(there))
    return f"{count} files of {run} were copied to {there}, {size / 1e6:,.1f} MB"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        options = _parser().parse_args(arguments)
        print(mirror(options.source, options.target))
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"Cannot copy: {in_words(error)}; check both places.", file=sys.stderr)
        return REFUSED
    return DONE


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="python -m diffusion_ode.tools.mirror",
        description="Copy a workdir to remote storage, or from there into a new folder. Run again,"
        " it copies the checkpoints that are new, and all that is small.",
    )
    parser.add_argument("source", metavar="FROM", help="a workdir, or gs://bucket/folder")
    parser.add_argument("target", metavar="TO", help="the other one of the two")
    return parser


if __name__ == "__main__":
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    leave_in_order()
    leave_with(status_of(main))
