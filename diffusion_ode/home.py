"""Paths as users give them: with `~`, which a container's user may not have, or in a bucket."""

import argparse
import re
from pathlib import Path

from diffusion_ode.errors import UserError

# As typed, or as `Path` has it, which takes several slashes for one. One letter is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def url_of(path: str | Path) -> str | None:
    """The address that a path is; None if it is a path of this machine."""
    text = str(path)
    found = _URL.match(text)
    if found is None or "://" in text:
        return found and text
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{text[found.end() :]}"


def refuse_remote(path: str | Path | None, what: str, remedy: str) -> None:
    """Refuses an address where a path of this machine is needed.

    Args:
      path: as given; None is fine.
      what: is given, such as "--workdir=".
      remedy: what may be done instead.

    Raises:
      UserError: it is an address in remote storage.
    """
    if path is not None and (url := url_of(path)):
        if url.startswith("file:"):
            raise UserError(f"{what}{url} is an address: write the path in it alone.")
        raise UserError(
            f"{what}{url} is in remote storage, which has no locks and no files to append to:"
            f" {remedy}."
        )


def refuse_remote_workdir(path: Path) -> None:
    """Refuses an address as the workdir of a launch; see `refuse_remote`."""
    refuse_remote(
        path,
        "--workdir=",
        "give a folder of this machine, and copy it by `python -m diffusion_ode.tools.mirror DIR"
        " URL`; --init_from and data.source.path may be there",
    )


def path_argument(text: str) -> Path:
    """The path of a flag, for argparse; an empty one, as of a variable that is not set, is none.

    It would be the folder where one stands.
    """
    if not text:
        raise argparse.ArgumentTypeError("an empty path: name a folder or file, or leave it out")
    return Path(text)


def expanded(path: str | Path) -> Path:
    """The path with `~` spelt out.

    Raises:
      UserError: there is no such folder to spell out, or it is not on this machine.
    """
    try:
        copying = f"copy it here by `python -m diffusion_ode.tools.mirror {url_of(path)} FOLDER`"
        refuse_remote(path, "", copying)
        return Path(path).expanduser()
    except (RuntimeError, TypeError) as error:
        if isinstance(error, TypeError):
            raise UserError(f"{path!r} is no path: give the name of a folder or file.") from error
        raise UserError(
            f"{path} cannot be found, as there is no such home directory: write the path without ~."
        ) from error
