"""Fetching a published file, checked before it gets its name."""

import contextlib
import http.client
import math
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data.checksum import file_checksum, gzip_content_checksum
from data.errors import damaged
from data.lock import waiting_lock
from data.recipe import PublishedFile, Recipe
from data.report import Report

# A server that says nothing for so long will not.
TIMEOUT_SECONDS = 20
BLOCK_BYTES = 1 << 20
# Of a gzipped file that is known by its content.
MAX_UNPACKED_BYTES = 1 << 28


def download(recipe: Recipe, data_dir: Path, report: Report) -> Path:
    """The folder with all files of a data set, fetched where they are not there yet.

    Raises the recipe's MissingData where there is no network or no way to fetch a file.
    """
    folder = data_dir / "downloads"
    if any(file.url is None and not (folder / file.name).is_file() for file in recipe.files):
        raise recipe.missing(data_dir)
    with waiting_lock(folder, recipe.name, report):
        for file in recipe.files:
            path = folder / file.name
            if path.is_file():
                continue
            assert file.url is not None  # as was checked
            report(f"downloading {file.url}")
            try:
                _fetch(file.url, path)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
                reason = getattr(error, "reason", error)
                raise recipe.missing(data_dir, f" (fetching it failed: {reason})") from error
    return folder


def _fetch(url: str, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        answer = stack.enter_context(urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS))
        partial.unlink(missing_ok=True)  # it might be a link to anywhere
        with partial.open("xb") as file:
            shutil.copyfileobj(answer, file, BLOCK_BYTES)
        partial.rename(path)


class Checked(NamedTuple):
    """A file's checksum, and whether it is a published one."""

    checksum: str
    published: bool


def check_published(path: Path, recipe: Recipe) -> Checked:
    """A file's checksum, compared with the published ones.

    A file under another than its official name is known by its size: a file of a published size
    that is not the published one is damaged just as well.

    Raises:
        DamagedData: it is not the file published under its name, or of its size.
    """
    file = recipe.published(path.name)
    if file is None:
        size = path.stat().st_size
        candidates = (file for file in recipe.files + recipe.other_files if file.checksum)
        file = next((file for file in candidates if file.num_bytes == size), None)
        if file is None:
            return Checked(file_checksum(path), False)
    return _compare(path, file)


def check_sizes(files: Sequence[Path], recipe: Recipe) -> None:
    """Before any is read: refuses files of other sizes than the published ones of their names.

    All together are at most twice what the images take, and 1 MB.

    Raises:
        DamagedData: names one that is not.
    """
    sizes = {path: path.stat().st_size for path in files}
    for path, size in sizes.items():
        file = recipe.published(path.name)
        if file is not None and not file.content:
            _check_size(path, size, file)
    if recipe.num_train is None or recipe.num_test is None:
        return
    images = recipe.num_train + recipe.num_test
    most = 2 * images * math.prod(recipe.source.shape) + (1 << 20)
    if sum(sizes.values()) > most:
        largest = max(sizes, key=lambda path: sizes[path])
        found = f"has {sizes[largest]} bytes, and all that is read has {sum(sizes.values())}"
        raise damaged(largest, found, f"at most {most} in all")


def _check_size(path: Path, size: int, file: PublishedFile) -> None:
    if file.num_bytes is not None and size != file.num_bytes:
        raise damaged(path, f"has {size} bytes", f"{file.num_bytes}, as published,")


def _compare(path: Path, file: PublishedFile) -> Checked:
    content = file.content
    if content and gzip_content_checksum(path, max_bytes=MAX_UNPACKED_BYTES) == content:
        return Checked(content, True)
    _check_size(path, path.stat().st_size, file)
    if file.checksum is None:
        return Checked(file_checksum(path), False)
    checksum = file_checksum(path, file.checksum.partition(":")[0])
    if checksum != file.checksum:
        raise damaged(path, f"has checksum {checksum}", f"{file.checksum}, as published,")
    return Checked(checksum, True)
