"""Files that are whole or absent, and files that one process at a time holds."""

import contextlib
import errno
import fcntl
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.named_lock import held_by_name

# What file systems without flock say of it: Lustre as it is mounted by default, some FUSE and NFS.
_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.ENOTTY)


@contextlib.contextmanager
def replace_atomically(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that takes `path`'s place, whole, when the context ends well.

    A kill while writing leaves the old file, and so does a power failure.

    Args:
      path: its folder is made if it does not exist.
      mode: "w" for text, which is UTF-8, or "wb".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    encoding = None if "b" in mode else "utf-8"
    try:
        temporary.unlink(missing_ok=True)  # it might be a link to anywhere
        with temporary.open(mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name too must outlive a power failure
    finally:
        os.close(folder)


def refuse_link(path: Path) -> None:
    """Refuses to append to, or to hold, what is reached through a link, which might lead anywhere.

    Raises:
      UserError: the path is a link.
    """
    if path.is_symlink():
        raise UserError(f"{path} is a link, which is not followed: remove it.")


def identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another of its name; None if there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        there = folder.stat()
        return there.st_dev, there.st_ino
    return None


def keep_aside(path: Path, lost: str) -> None:
    """Gives a damaged file, which is about to be replaced, another name, and says so on screen.

    Args:
      path: of the file.
      lost: what it told of, such as "of earlier launches".
    """
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if aside.exists():
            if aside.samefile(path):  # by a launch that came to write nothing
                break
            continue
        try:
            aside.hardlink_to(path)
        except OSError:  # a file system without such links
            path.rename(aside)
        break
    print(
        f"{path} is damaged, and what it told {lost} may be missing from now on: it is kept as"
        f" {aside.name}.",
        file=sys.stderr,
    )


@contextlib.contextmanager
def held(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold a file, which is made if it does not exist; yields its descriptor.

    It is a `flock`: the kernel frees it with the process, however that ends. Where the file system
    has none it is another file, `PATH.held`; see `named_lock`. Whoever holds the file may replace
    or remove it: who waited for the old one then takes the one that is there now.

    Args:
      path: its folder exists.
      wait: for another process to let go of it.

    Raises:
      Held: another process holds it, and `wait` is off.
      UserError: it is no file, or a link, which might lead anywhere.
    """
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags, 0o644)
        except OSError:
            refuse_link(path)
            _refuse_others(path)
            raise
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            _refuse_others(path)
            if not _taken(path, descriptor, wait, stack):
                raise Held(os.pread(descriptor, 1 << 16, 0))
            if is_still(path, descriptor):
                yield descriptor
                return


def _taken(path: Path, descriptor: int, wait: bool, stack: contextlib.ExitStack) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return stack.enter_context(held_by_name(path.with_name(f"{path.name}.held"), wait))
    return True


class Held(Exception):
    """Another process holds the file; `content` is what it has written into it."""

    def __init__(self, content: bytes):
        super().__init__("another process holds the file")
        self.content = content


def is_still(path: Path, descriptor: int) -> bool:
    """Whether an open file still has the name under which it was opened."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False


def _refuse_others(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is in the way (it is no file): move it elsewhere.")
