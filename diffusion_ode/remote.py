"""Remote storage, `gs://bucket/folder` and the like, through fsspec.

A run needs locks, files that are appended to and files that are replaced whole, and a bucket has
none of them. So nothing is worked on there: what is read is fetched into the cache first, under a
name that changes with what the storage tells of it, and what was written is copied as a whole.
"""

import hashlib
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from diffusion_ode.errors import UserError, in_words
from diffusion_ode.home import expanded, url_of

CACHE_VARIABLE = "DIFFUSION_ODE_DATA"
DEFAULT_CACHE = Path("~/.cache/diffusion_ode")

_PACKAGES = {
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "hf": "huggingface_hub",
}
_SUCH_AS = "gs://bucket/folder or s3://bucket/folder"
# What fsspec calls so is within something else, or of this machine; some of it opens whatever the
# address has after it.
_IN_BRACKETS = re.compile(r"//\[[0-9A-Fa-f:.]+\]")  # an address of the sixth version of IP
_NO_STORAGES = frozenset(
    [
        *("async_wrapper", "asyncwrapper", "blockcache", "cached", "dir", "filecache", "generic"),
        *("libarchive", "reference", "simplecache", "tar", "zip"),
        *("asynclocal", "data", "local"),
    ]
)
_FETCHED = "fetched"  # the folder of the cache
# Of a checkpoint: written last, so that where it is, all is. (`checkpoints` names it `facts`.)
_LAST_OF_A_STEP = "facts/metadata"
_EXPORTED = ("config.json", "model.safetensors")  # as `checkpoints.exported` names them
_STEP = re.compile(r"checkpoints/(\d+)/(.+)")


def fetched(
    path: str | Path, choose: Callable[[Mapping[str, Any]], set[str]] | None = None
) -> Path:
    """A file or folder in remote storage as one of this machine; a path of this machine as it is.

    Every file is fetched once, and again when the storage tells something else of any of them.

    Args:
      path: what the user gave.
      choose: of a folder, which files are wanted, by their paths in it; None: all.

    Raises:
      UserError: there is nothing, it cannot be read, or a library is missing.
    """
    url = url_of(path)
    if url is None or url.startswith("file:///"):
        return expanded(url.removeprefix("file://") if url else path)
    storage, root, listing = _listed(url)
    name = PurePosixPath(root).name or "all"
    single = set(listing) == {""}
    if not single:
        wanted = set(listing) if choose is None else choose(listing)
        if not wanted:
            raise UserError(f"{url} holds no run and no exported model: check the address.")
        listing = {each: listing[each] for each in sorted(wanted)}
    facts = [(each, sorted((k, str(v)) for k, v in info.items())) for each, info in listing.items()]
    digest = hashlib.sha256(repr((url, facts)).encode()).hexdigest()[:16]
    target = _cache() / _FETCHED / digest / name
    if target.exists():
        return target
    size = sum(info.get("size") or 0 for info in listing.values())
    count = "a file" if len(listing) == 1 else f"{len(listing)} files"
    print(f"fetching {count} of {url}, {size / 1e6:,.1f} MB", file=sys.stderr, flush=True)
    temporary = target.parent.with_name(f".{digest}.{os.getpid()}")
    try:
        places = {each: temporary / name / each if each else temporary / name for each in listing}
        _get(storage, url, {f"{root}/{e}" if e else root: at for e, at in places.items()})
        temporary.rename(target.parent)
    except OSError as error:
        if not target.exists():  # else another process was faster
            raise UserError(
                f"{url} cannot be kept in {_cache()} ({in_words(error)}): make room there, or name"
                f" another folder by ${CACHE_VARIABLE}."
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def fetched_run(path: str | Path, step: int | str | None = None) -> Path:
    """A workdir or an exported model in remote storage, fetched as far as loading it needs.

    Args:
      path: of it; one of this machine is given back as it is.
      step: which checkpoint; None: the newest whole one; any other text: all of them.

    Raises:
      UserError: as `fetched`.
    """

    def choose(listing: Mapping[str, Any]) -> set[str]:
        of = {name: match for name in listing if (match := _STEP.fullmatch(name))}
        steps = {int(match[1]) for match in of.values() if match[2] == _LAST_OF_A_STEP}
        if isinstance(step, int) and step not in steps:
            raise UserError(
                f"{url_of(path)} has no whole checkpoint {step}: choose one of {sorted(steps)}."
            )
        if not isinstance(step, str):
            steps = {max(steps, default=-1) if step is None else step}
        return {name for name in listing if name in _EXPORTED} | {
            name for name, match in of.items() if int(match[1]) in steps
        }

    return fetched(path, choose)


def upload(folder: Path, url: str) -> tuple[int, int]:
    """Copies a workdir to remote storage; a checkpoint only if it is not there yet.

    Nothing is removed there. A checkpoint's last file comes last: where it is, all of it is. What
    vanishes meanwhile, as a training that goes on keeps the newest checkpoints only, is left out.

    Args:
      folder: the workdir.
      url: of a folder there.

    Returns:
      How many files were copied, and their bytes.

    Raises:
      UserError: it cannot be written, or a library is missing.
    """
    storage, root = _storage(url)
    names = [
        name.as_posix()
        for file in sorted(folder.rglob("*"))
        if not _passing(name := file.relative_to(folder)) and file.is_file()
    ]
    steps = {match[1] for name in names if (match := _STEP.fullmatch(name))}
    with _told(url, "write"):
        there = {step for step in steps if _is_there(storage, root, folder, step)}
        new = [n for n in names if not ((match := _STEP.fullmatch(n)) and match[1] in there)]
        sizes = []
        for name in sorted(new, key=lambda name: name.endswith(_LAST_OF_A_STEP)):
            try:
                storage.put_file(str(folder / name), f"{root}/{name}")
                sizes.append((folder / name).stat().st_size)
            except FileNotFoundError:
                if (folder / name).exists():
                    raise
    return len(sizes), sum(sizes)


def _is_there(storage: Any, root: str, folder: Path, step: str) -> bool:
    """Whether the very checkpoint is; the last file of another one of that step is removed."""
    name = f"checkpoints/{step}/{_LAST_OF_A_STEP}"
    try:
        if storage.cat_file(f"{root}/{name}") == (folder / name).read_bytes():
            return True
        storage.rm_file(f"{root}/{name}")
    except FileNotFoundError:
        pass
    return False


def download(url: str, folder: Path) -> int:
    """Copies a workdir from remote storage into a folder, all or nothing; how many files it has.

    Raises:
      UserError: the folder is taken, there is nothing, or it cannot be read.
    """
    # The folder where one stands has no name, and nothing can be put in its place.
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir()) or not folder.name):
        raise UserError(f"{folder} exists already: give another folder, or remove it.")
    storage, root, listing = _listed(url)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        _get(storage, url, {f"{root}/{name}": temporary / name for name in listing})
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(listing)


def _passing(name: Path) -> bool:
    """Whether a file is of this machine and moment: locks, and what is not written yet."""
    return any(part.startswith(".") or ".orbax-checkpoint-tmp" in part for part in name.parts)


def _listed(url: str) -> tuple[Any, str, dict[str, Any]]:
    """The storage, the path in it, and facts of each file by its path below that ("": itself)."""
    storage, root = _storage(url)
    with _told(url, "read"):
        if storage.isdir(root):
            found = storage.find(root, detail=True)
        else:
            found = {root: storage.info(root)}
    listing = {_relative(root, each): info for each, info in found.items()}
    if not listing:
        raise UserError(f"There is nothing at {url}: check the address.")
    for name in listing:
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\0" in name:
            raise UserError(f"{url} has a file {name!r}, which leads out of it: do not use it.")
    return storage, root, listing


def _relative(root: str, path: str) -> str:
    return path.lstrip("/").removeprefix(root.lstrip("/")).removeprefix("/")


def _get(storage: Any, url: str, places: Mapping[str, Path]) -> None:
    for place in {place.parent for place in places.values()}:
        place.mkdir(parents=True, exist_ok=True)
    with _told(url, "read"):
        storage.get(list(places), [str(place) for place in places.values()])


def _storage(url: str) -> tuple[Any, str]:
    scheme = url.partition(":")[0]
    if "::" in _IN_BRACKETS.sub("//host", url):
        raise UserError(
            f"{url} has a ::, which joins several addresses, and one alone is read: give one such"
            f" as {_SUCH_AS}, and unpack an archive there first."
        )
    if scheme.lower() in _NO_STORAGES:
        raise UserError(
            f"{url} is in no remote storage, as {scheme}: names none: give an address such as"
            f" {_SUCH_AS}, or a path of this machine."
        )
    fsspec = importlib.import_module("fsspec.core")
    with _told(url, "open"):
        try:
            storage, root = fsspec.url_to_fs(url)
        except ImportError as missing:
            package = _PACKAGES.get(scheme, "what it names")
            raise UserError(
                f"{url} needs a library that is not installed ({in_words(missing)}): pip install"
                f" {package}."
            ) from None
        except ValueError as unknown:
            raise UserError(
                f"{url} is no address that fsspec knows ({in_words(unknown)}): give one such as"
                f" {_SUCH_AS}, or a path of this machine."
            ) from None
        return storage, str(root).rstrip("/")


class _told:
    """Whatever a storage's library raises, as one sentence."""

    def __init__(self, url: str, what: str):
        self._url, self._what = url, what

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, UserError):
            return
        if isinstance(error, FileNotFoundError):
            raise UserError(f"There is nothing at {self._url}: check the address.") from error
        if isinstance(error, Exception):
            raise UserError(
                f"Cannot {self._what} {self._url} ({in_words(error)}): check the address, your"
                " credentials and the network."
            ) from error


def _cache() -> Path:
    return expanded(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE)
