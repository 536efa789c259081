"""Turn what a data set's publishers distribute into what the pipeline reads.

python -m data.prepare cifar10 [--from PATH] [--data_dir DIR]
"""

import argparse
import difflib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from data import sources
from data.conversion import Conversion, Report, convert
from data.download import check_published, download
from data.errors import remedied
from data.location import DEFAULT_DATA_DIR, ENVIRONMENT_VARIABLE, resolve_data_dir
from data.recipe import Recipe
from data.source import ImageData, Source
from data.store import is_prepared, open_prepared
from diffusion_ode.errors import UserError
from diffusion_ode.exit_statuses import DONE, INTERRUPTED, REFUSED

# A folder of TFRecords has dozens of files.
MAX_NAMES_SHOWN = 3


@functools.cache
def data_sets() -> dict[str, Source | Recipe]:
    """By name, what the modules of `data/sources/` offer: with a recipe, or inside a package."""
    modules = pkgutil.iter_modules(sources.__path__, f"{sources.__name__}.")
    offered = [
        each
        for module in modules
        for each in getattr(importlib.import_module(module.name), "DATA_SETS", ())
    ]
    return {each.name: each for each in sorted(offered, key=lambda each: each.name)}


def prepare(
    name: str,
    path: Path | None = None,
    data_dir: Path | None = None,
    report: Report = lambda _: None,
) -> ImageData:
    """The prepared data set of that name, converted where it is not yet, its content verified.

    Args:
        name: one of `data_sets()`.
        path: the publisher's file, or a folder with it; None: where a package has put it, or else
            by download.
        data_dir: where prepared data sets are.
        report: is told what is going on.

    Raises:
        UserError: in one sentence, what is missing or wrong and what to do.
    """
    folder, known = resolve_data_dir(data_dir), data_sets()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        nearest = f"the nearest is {close[0]}; " if close else ""
        raise UserError(f"There is no data set {name!r}: {nearest}choose of {', '.join(known)}.")
    found = known[name]
    if not isinstance(found, Recipe):
        return _prepare_shipped(found, path, folder)
    if not is_prepared(folder, name):
        convert_published(found, path, folder, report)
    return open_prepared(found.source, folder, verify=True)


def _prepare_shipped(source: Source, path: Path | None, data_dir: Path) -> ImageData:
    if path is not None:
        raise UserError(
            f"{source.name} comes inside installed packages and is not read from {path}: leave "
            "--from out."
        )
    return source.load(data_dir)


def convert_published(
    recipe: Recipe, path: Path | None, data_dir: Path, report: Report = lambda _: None
) -> None:
    """Check, read and store a published data set; see `prepare`."""
    with remedied(recipe.remedy):
        _convert_published(recipe, path, data_dir, report)


def _convert_published(recipe: Recipe, path: Path | None, data_dir: Path, report: Report) -> None:
    if path is None:
        installed = [place for place in recipe.places if place.is_dir()]
        path = installed[0] if installed else download(recipe, data_dir, report)
    if not path.exists():
        raise recipe.not_there(path, data_dir)
    reading = recipe.read(path)
    report(f"checking {_some([file.name for file in reading.files])}")
    checked = {file.name: check_published(file, recipe) for file in reading.files}
    unknown = [name for name, check in checked.items() if not check.published]
    if unknown:
        report(f"not checked against a published checksum: {_some(unknown)}")
    conversion = Conversion(
        name=recipe.name,
        shape=recipe.source.shape,
        levels=recipe.source.levels,
        counts={"train": recipe.num_train, "test": recipe.num_test},
        blocks={"train": reading.train, "test": reading.test},
        sources=tuple((name, check.checksum) for name, check in checked.items()),
        origin=str(path),
    )
    convert(conversion, data_dir, report)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def describe(images: ImageData) -> str:
    """One line with the facts of a data set."""
    manifest = images.manifest
    height, width, channels = manifest.shape
    return (
        f"{manifest.name}: {manifest.train.count} training and {manifest.test.count} test images "
        f"of {height}×{width}×{channels}, {manifest.levels} levels, "
        f"fingerprint {manifest.fingerprint}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        description="Check, convert and fingerprint a data set, once.",
    )
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(data_sets())}")
    parser.add_argument(
        "--from", dest="path", type=Path, metavar="PATH", help="the publisher's file or folder"
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        metavar="DIR",
        help=f"where to; default ${ENVIRONMENT_VARIABLE}, else {DEFAULT_DATA_DIR}",
    )
    options = parser.parse_args(arguments)
    try:
        images = prepare(options.name, options.path, options.data_dir, _say)
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"{error}: check that path, then type the same command again.", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on where it was.", file=sys.stderr)
        return INTERRUPTED
    print(describe(images))
    return DONE


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
