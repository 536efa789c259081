"""Turn what a data set's publishers distribute into what the pipeline reads.

python -m data.prepare cifar10 [--from PATH] [--data_dir DIR]
python -m data.prepare image_folder --from DIR --size=32
"""

# Before all other imports: a Ctrl-C may come in any of them.
if __name__ == "__main__":
    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import argparse
import ast
import dataclasses
import difflib
import functools
import importlib
import json
import pkgutil
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data import sources
from data.conversion import Conversion, convert
from data.download import check_published, check_sizes, download
from data.errors import remedied
from data.location import DEFAULT_DATA_DIR, ENVIRONMENT_VARIABLE, resolve_data_dir
from data.recipe import Recipe
from data.report import Report, say
from data.source import ImageData, Source
from data.sources.array_file import ArrayFile
from data.sources.image_folder import ImageFolder
from data.store import is_prepared, open_prepared
from diffusion_ode.command_line import SentenceParser, whole_number
from diffusion_ode.errors import UserError, is_utf8, printable
from diffusion_ode.exit_statuses import DONE, INTERRUPTED, REFUSED
from diffusion_ode.home import path_argument, url_of
from diffusion_ode.leaving import leave_in_order, leave_with, status_of
from diffusion_ode.ranges import Within
from diffusion_ode.remote import fetched
from diffusion_ode.streams import LastingStream

# Sources of a user's own, for which --from says what they are made of.
OWN = {"image_folder": ImageFolder, "array_file": ArrayFile}
_FIELDS = "data.source."  # where an experiment has them
_LARGEST_SIDE = 1 << 14  # of a picture, which then has a gigabyte
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
    report: Report = say,
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
        close = difflib.get_close_matches(name, [*known, *OWN], n=1)
        nearest = f"the nearest is {close[0]}; " if close else ""
        raise UserError(
            f"There is no data set {name!r}: {nearest}choose of {', '.join([*known, *OWN])}."
        )
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
    recipe: Recipe, path: Path | None, data_dir: Path, report: Report = say
) -> None:
    """Check, read and store a published data set; see `prepare`."""
    with remedied(recipe.remedy):
        _convert_published(recipe, path, data_dir, report)


def _convert_published(recipe: Recipe, path: Path | None, data_dir: Path, report: Report) -> None:
    if path is None:
        installed = [place for place in recipe.places if place.is_dir()]
        path = installed[0] if installed else download(recipe, data_dir, report)
    origin, path = url_of(path) or str(path), fetched(path)
    if not path.exists():
        raise recipe.not_there(path, data_dir)
    reading = recipe.read(path)
    check_sizes(reading.files, recipe)
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
        origin=origin,
    )
    convert(conversion, data_dir, report)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES_SHOWN
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def own_source(name: str, path: Path | None, size: int | None, settings: Sequence[str]) -> Source:
    """A source of a user's own files.

    Args:
        name: one of `OWN`.
        path: of the files.
        size: of a folder's pictures: short for resize and crop.
        settings: `FIELD=VALUE` for the source's other fields.
    """
    if path is None:
        raise UserError(f"{name} needs the files that it is made of: add --from PATH.")
    made = OWN[name]
    fields = {field.name for field in dataclasses.fields(made)} - {"path"}
    values: dict[str, Any] = {} if size is None else {"resize": size, "crop": size}
    for setting in settings:
        field, _, value = setting.partition("=")
        field = field.removeprefix(_FIELDS)
        try:
            values[field] = ast.literal_eval(value)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            values[field] = value
    if unknown := [field for field in values if field not in fields]:
        known = ", ".join(sorted(fields))
        raise UserError(f"{name} has no field {unknown[0]!r}: set one of {known}.")
    if not is_utf8(str(path)):
        raise UserError(
            f"--from {str(path)!r} is no UTF-8, so that no config could name it: give the folder or"
            " file another name."
        )
    return made(url_of(path) or str(path), **values)


def describe(images: ImageData) -> str:
    """One line with the facts of a data set, and one for each note about its making."""
    manifest = images.manifest
    height, width, channels = manifest.shape
    line = (
        f"{manifest.name}: {manifest.train.count} training and {manifest.test.count} test"
        f" image{'s' if manifest.test.count > 1 else ''} of {height}×{width}×{channels},"
        f" {manifest.levels} levels, fingerprint {manifest.fingerprint}"
    )
    return "\n".join([line, *(f"  {note}" for note in manifest.notes)])


def _training(name: str, source: Source, images: ImageData, data_dir: Path | None) -> str:
    """The command that trains on a source of a user's own."""
    given = (
        f"{field.name}={json.dumps(value) if isinstance(value, str) else value}"
        for field in dataclasses.fields(source)  # pyright: ignore[reportArgumentType]
        if (value := getattr(source, field.name)) != field.default
    )
    held_out = 0 if images.validation is not None else len(images.train) // 10
    settings = (
        f"data.source={name}({', '.join(given)})",
        f"model.pixels=pixels(shape={tuple(source.shape)}, levels={source.levels})",
        f"data.held_out={held_out}",
    )
    flags = [f"--set {shlex.quote(setting)}" for setting in settings]
    if data_dir is not None:
        flags.append(f"--data_dir={shlex.quote(str(data_dir))}")
    return " ".join(["python launch/run.py --exp=photos_vp --workdir=runs/mine", *flags])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        options = _parser().parse_args(arguments)
        if options.name in OWN:
            source = own_source(options.name, options.path, options.size, options.set)
            images = source.load(options.data_dir)
            print(printable(describe(images), "\n"), "to train on it, type\n  ", sep="\n", end="")
            print(printable(_training(options.name, source, images, options.data_dir)))
            return DONE
        if options.size is not None or options.set:
            raise UserError(f"{options.name} is as published: leave --size and --set out.")
        print(printable(describe(prepare(options.name, options.path, options.data_dir)), "\n"))
    except UserError as error:
        said = str(error).replace(f"and {_FIELDS}", "and --set ")
        said = said.replace(f"set {_FIELDS}", "--set ").replace(_FIELDS, "")
        print(said, file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"{error}: check that path, then type the same command again.", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on where it was.", file=sys.stderr)
        return INTERRUPTED
    return DONE


class _Parser(SentenceParser):
    """It knows what a word may have been meant as."""

    def error(self, message: str):
        what, _, word = message.rpartition(" ")
        if what.startswith("unrecognized") and "=" in word and not word.startswith("-"):
            message = f"{message}: each field has a --set of its own"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m data.prepare",
        description="Get, check, convert and fingerprint a data set, once.",
        epilog="`python -m data.prepare cifar10` downloads CIFAR-10; what cannot be downloaded"
        " without registration says where to get it.",
    )
    names = ", ".join([*data_sets(), *OWN])
    parser.add_argument("name", metavar="NAME", help=f"one of {names}")
    parser.add_argument(
        "--from",
        dest="path",
        type=path_argument,
        metavar="PATH",
        help="the publisher's file or folder, instead of a download; or your own; gs://… too",
    )
    parser.add_argument(
        "--size",
        type=whole_number(Within(1, _LARGEST_SIDE)),
        metavar="N",
        help="image_folder: short for --set resize=N --set crop=N",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"of {' and '.join(OWN)}, such as channels=3; repeatable",
    )
    parser.add_argument(
        "--data_dir",
        type=path_argument,
        metavar="DIR",
        help=f"where to; default ${ENVIRONMENT_VARIABLE}, else {DEFAULT_DATA_DIR}",
    )
    return parser


if __name__ == "__main__":
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    leave_in_order()
    leave_with(status_of(main))
