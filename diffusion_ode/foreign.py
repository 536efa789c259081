"""Files that anybody may have made: opened where they come to an end, and read within a boundary.

Each reader says how much memory it may take for a file, and turns whatever is raised on the way
into its own refusal.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from diffusion_ode.errors import UserError, in_words

NOT_REGULAR = errno.ENODEV
PIECE = 1 << 20
"""Bytes that are asked for at once: memory is taken before they come."""


@contextlib.contextmanager
def refused(refusal: Callable[[str], UserError | str]) -> Iterator[None]:
    """The boundary of a reader of foreign bytes, on which anything at all may be raised.

    Args:
      refusal: makes one of the exception's own words, or its sentence.

    Raises:
      UserError: whatever was raised inside, which is its cause.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = refusal(in_words(error))
        raise (UserError(found) if isinstance(found, str) else found) from error


def open_regular(path: Path) -> BufferedReader:
    """The file opened for reading; pipes and devices, which need not come to an end, are refused.

    Raises:
      OSError: it is not there, may not be read, or is no regular file.
    """
    # A pipe that nobody writes to would keep whoever opens it waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(NOT_REGULAR, "It is no regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, max_bytes: int) -> bytes:
    """All of a file.

    Raises:
      OSError: as for `open_regular`, or it has more bytes than that.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > max_bytes else file.read(size + 1)  # it may grow meanwhile
    if max(size, len(content)) > max_bytes:
        raise OSError(errno.EFBIG, f"It has more than {max_bytes} bytes", str(path))
    return content


def parsed_json(content: bytes, max_items: int, **options: Any) -> Any:
    """What JSON says: a file of brackets alone would take many times its size in memory.

    Args:
      content: of the file.
      max_items: it may have, of some 100 bytes of memory each.
      options: of `json.loads`.

    Raises:
      ValueError: it has more, or is no JSON.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > max_items:
        raise ValueError(f"it has more than {max_items} items")
    return json.loads(content, **options)


def read_up_to(file: Any, size: int) -> bytes:
    """So many bytes, or all there are, in pieces: no memory for what is only claimed."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def lines_of(file: Any, longest: int) -> Iterator[bytes]:
    """The lines of a file, one after the other; nothing, b"", of one of more bytes than that."""
    while line := file.readline(longest + 1):
        if len(line) <= longest:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(longest)
        yield b""
