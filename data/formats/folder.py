"""The files below a folder, and how they are divided into splits; what is left out is named."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diffusion_ode.errors import UserError

SPLIT_FOLDERS = {
    "train": "train",
    "test": "test",
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
}


class Files(NamedTuple):
    """Files below a folder.

    Attributes:
        chosen: in the order of their names.
        left_out: the others, by what they are.
    """

    chosen: list[Path]
    left_out: dict[str, list[Path]]


class Splits(NamedTuple):
    """Files by split, how they came there, and those that are in none.

    Attributes:
        train, validation, test: in the order of their names, or as they were drawn.
        in_words: how they were divided.
        left_out: in none of the splits' folders.
        by_folders: whether folders divide them.
    """

    train: list[Path]
    validation: list[Path]
    test: list[Path]
    in_words: str
    left_out: list[Path]
    by_folders: bool = False

    @property
    def all(self) -> list[Path]:
        """Of every split."""
        return [*self.train, *self.validation, *self.test]


def files_below(root: Path, suffixes: Collection[str]) -> Files:
    """All files of these suffixes (in small letters), links to files and folders followed."""
    chosen, left_out = [], {}
    for path, kind in _entries(root, suffixes):
        (chosen if kind is None else left_out.setdefault(kind, [])).append(path)
    return Files(sorted(chosen), left_out)


def any_file_below(root: Path, suffixes: Collection[str]) -> Path | None:
    """One of the files that `files_below` chooses, soon found; None if there is none."""
    return next((path for path, kind in _entries(root, suffixes) if kind is None), None)


def _entries(root: Path, suffixes: Collection[str]) -> Iterator[tuple[Path, str | None]]:
    """Files, and folders that are not looked into, each with what it is if it is not chosen."""
    seen = set()
    for place, folders, names in os.walk(root, followlinks=True):
        here, real = Path(place), os.path.realpath(place)
        if real in seen:
            folders.clear()
            yield here, "in folders that are there twice, by links"
            continue
        seen.add(real)
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders).difference(hidden))
        for name in sorted([*names, *hidden]):
            yield here / name, _left_out(here / name, suffixes)


def _left_out(file: Path, suffixes: Collection[str]) -> str | None:
    """What a file is that is not among the chosen; None for those."""
    if file.name.startswith("."):
        return "hidden"
    if not file.is_file():
        return "linked to nothing, or not regular"
    return None if file.suffix.lower() in suffixes else file.suffix.lower() or "without a suffix"


def split_files(root: Path, files: list[Path], fraction: float, seed: int | None) -> Splits:
    """By folders of the splits' names in `root`, in any case of letters, else by a fraction.

    Args:
        root: the folder of the files.
        files: in the order of their names.
        fraction: of the files that become test images, where no folder says which.
        seed: draws them, and with them the order; None takes them at even distances.

    Raises:
        UserError: folders name some splits, but not both training and test images.
    """
    folders: dict[str, list[str]] = {}
    for name in sorted({file.relative_to(root).parts[0] for file in files}):
        if name.lower() in SPLIT_FOLDERS and (root / name).is_dir():
            folders.setdefault(SPLIT_FOLDERS[name.lower()], []).append(name)
    if not folders:
        return _by_fraction(files, fraction, seed)
    if "test" not in folders and "validation" in folders:
        folders["test"] = folders.pop("validation")
    if not {"train", "test"} <= folders.keys() or max(map(len, folders.values())) > 1:
        there = ", ".join(name for names in folders.values() for name in names)
        raise UserError(
            f"{root} has {there} among its folders, which do not tell training from test images:"
            " name one folder train and one test (and, if you like, one validation)."
        )
    found = {split: [] for split in ("train", "validation", "test", "left_out")}
    split_of = {name: split for split, (name,) in folders.items()}
    for file in files:
        found[split_of.get(file.relative_to(root).parts[0], "left_out")].append(file)
    told = ", ".join(f"{split} from folder {name}" for name, split in split_of.items())
    return Splits(**found, in_words=told, by_folders=True)


def _by_fraction(files: list[Path], fraction: float, seed: int | None) -> Splits:
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(files))
        count = max(1, round(len(files) * fraction))
        test, train = ([files[k] for k in part] for part in (order[:count], order[count:]))
        told = f"{fraction:.0%} are test images, drawn with seed {seed}"
        return Splits(train, [], test, told, [])
    every = round(1 / fraction)
    test = files[every - 1 :: every] or files[-1:]
    chosen = set(test)
    train = [file for file in files if file not in chosen]
    return Splits(train, [], test, f"by name, one in {every} is a test image", [])
