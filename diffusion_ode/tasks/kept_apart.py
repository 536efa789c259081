"""Folders of what a task has made: made otherwise, it goes beside what is there."""

import contextlib
import itertools
from pathlib import Path

from diffusion_ode.errors import UserError
from diffusion_ode.foreign_arrays import read_arrays


def check_folder(root: Path) -> None:
    """Refuses, before anything is made, a place that can hold no folder.

    Raises:
      UserError: it is a file.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file, not a folder: move it away.")


def folder_of(root: Path, name: str, file: str, origin: tuple[str, str]) -> Path:
    """The first of `name`, `name-2`, … that is free, or whose file is of the same origin.

    Args:
      root: of the folders.
      name: of the first.
      file: an .npz; one that cannot be read is of another origin.
      origin: the name of its array that tells one origin from another, and this one's text.
    """
    array, text = origin
    for each in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))):
        folder = root / each
        if not (folder.exists() and not folder.is_dir()) and not (folder / file).exists():
            return folder
        with contextlib.suppress(UserError):
            known = read_arrays(folder / file, (array,)).get(array)
            if known is not None and known.dtype.kind == "U" and known.tolist() == text:
                return folder
    raise AssertionError  # numbers do not end
