"""Paths as users give them: with `~`, which a container's user may not have, or in a bucket."""

import argparse
import contextlib
import os
import re
from pathlib import Path

from diffusion_ode.errors import UserError, in_words

# As typed, or as `Path` has it, which takes several slashes for one. One letter is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_WITHIN = "_" * 100  # longer than what is looked for in a folder that a user names


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


def refuse_impossible(path: Path, remedy: str = "give another") -> None:
    """Refuses what no file here can be called: too long, with a NUL, through links in a circle.

    Args:
      path: of this machine; nothing need be there.
      remedy: what may be done instead.

    Raises:
      UserError: as said, or a folder on the way may not be entered.
    """
    try:
        # Each part by itself, too, as the folder before it may not be there yet.
        for place in (*(f"/{part}" for part in path.parts), path / _WITHIN):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(place)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{str(path)!r} is no path of this machine ({in_words(error)}): {remedy}."
        ) from error


def expanded(path: str | Path) -> Path:
    """The path with `~` spelt out: here whatever a user names is looked at first.

    Raises:
      UserError: it is empty, is not on this machine or cannot be there, or there is no such home
        to spell out; see `refuse_impossible`.
    """
    if path == "":
        raise UserError("A path is empty: give the name of a folder or file.")
    try:
        copying = f"copy it here by `python -m diffusion_ode.tools.mirror {url_of(path)} FOLDER`"
        refuse_remote(path, "", copying)
        found = Path(path)
    except TypeError as error:
        raise UserError(f"{path!r} is no path: give the name of a folder or file.") from error
    try:
        found = found.expanduser()
    except (RuntimeError, ValueError) as error:  # of a name that no user can have
        raise UserError(
            f"{path} cannot be found, as there is no such home directory: write the path without ~."
        ) from error
    refuse_impossible(found)
    return found
