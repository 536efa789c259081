"""Folders of what a task has made: made otherwise, it goes beside what is there."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.foreign_arrays import read_arrays
from diffusion_ode.workdir.files import refuse_link

_FILES = (".lock", "config.json", "history.json", "run.json", "log.txt")
_APPENDED_TO = ("log.txt", "metrics.jsonl", "metrics.csv")
_FOLDERS = ("checkpoints", "code", "tensorboard", "evaluations", "samples", "comparisons")
_FOLDERS += ("compressed", "decompressed", "dequantizer")


def check_workdir(workdir: Path) -> None:
    """Refuses a workdir in which something else has the name of a file or folder of a run's.

    Raises:
      UserError: so it is, or a file that is appended to is a link, which might lead anywhere.
    """
    check_kinds(workdir, files=_FILES, folders=_FOLDERS)
    for name in _APPENDED_TO:
        refuse_link(workdir / name)


def check_kinds(root: Path, *, files: Sequence[str] = (), folders: Sequence[str] = ()) -> None:
    """Refuses, before anything is made, something else where a file or folder of ours is to be.

    Args:
      root: of the names.
      files, folders: their names in it; `*` stands for anything, such as a step.

    Raises:
      UserError: a folder has the name of a file, say.
    """
    for path in _others(root, folders, Path.is_dir):
        raise UserError(f"{path} is no folder, which it is in a run's workdir: move it.")
    for path in _others(root, files, Path.is_file):
        if path.exists():  # a link to nowhere is replaced
            raise UserError(f"{path} is no file, which it is in a run's workdir: move it.")


def _others(root: Path, names: Sequence[str], is_one: Callable[[Path], bool]) -> Iterator[Path]:
    for name in names:
        for path in root.glob(name) if "*" in name else [root / name]:
            if (path.exists() or path.is_symlink()) and not is_one(path):
                yield path


def folder_of(
    root: Path, name: str, file: str, origin: tuple[str, str], folders: Sequence[str] = ()
) -> Path:
    """The first of `name`, `name-2`, … that is free, or whose file is of the same origin.

    One in which something else has the name of our file, picture or folders is not free.

    Args:
      root: of the folders.
      name: of the first.
      file: an .npz; one that cannot be read is of another origin.
      origin: the name of its array that tells one origin from another, and this one's text.
      folders: that will be in it.
    """
    array, text = origin
    for each in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))):
        folder = root / each
        with contextlib.suppress(UserError):
            check_kinds(folder, files=(file, "grid.png"), folders=("", *folders))
            if not (folder / file).exists():
                return folder
            known = read_arrays(folder / file, (array,)).get(array)
            if known is not None and known.dtype.kind == "U" and _is(known, text):
                return folder
    raise AssertionError  # numbers do not end


def _is(known: np.ndarray, text: str) -> bool:
    with contextlib.suppress(Exception):  # a letter that is none
        return known.tolist() == text
    return False
