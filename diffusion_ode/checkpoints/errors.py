"""What can go wrong with a checkpoint, and telling damage from an ailing disk or permissions."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax

from diffusion_ode.foreign import NOT_REGULAR


class SaveFailed(RuntimeError):
    """A checkpoint could not be written; the text is one sentence with cause and remedy."""


class DamagedCheckpoint(Exception):
    """A checkpoint's content is not what was saved."""


# A file that is missing or is of another kind is the checkpoint's fault; every other error of the
# operating system (permission, no space, input/output) says nothing about its content.
_DAMAGE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, NOT_REGULAR),
    *(errno.EFBIG, errno.ENAMETOOLONG, errno.ELOOP),
)
# TensorStore, which reads and writes the arrays, says everything by ValueError: the status comes
# first, and the operating system's own number somewhere behind it.
_TENSORSTORE_ERRNO = re.compile(r"(?:os_error_code='|OS error )(\d+)")
_TENSORSTORE_STATUS = re.compile(
    "PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED"
)


@contextlib.contextmanager
def raise_unless_damage() -> Iterator[None]:
    """Turn whatever reading a damaged checkpoint raises into `DamagedCheckpoint`.

    Damaged files make Orbax raise assorted exceptions, so all count as damage but: errors of the
    operating system (which TensorStore hides in a message), lack of memory, failures of a device.
    """
    try:
        yield
    except (DamagedCheckpoint, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as failure:
        for link in _chain(failure):
            codes = [int(code) for code in _TENSORSTORE_ERRNO.findall(str(link))]
            if _TENSORSTORE_STATUS.match(str(link)):
                raise
            if isinstance(link, OSError) and link.errno is not None:
                codes.append(link.errno)
            if any(code not in _DAMAGE for code in codes):
                raise
        raise DamagedCheckpoint(first_line(failure)) from failure


def first_line(failure: BaseException, longest: int = 120) -> str:
    """What went wrong, short enough for a sentence."""
    if isinstance(failure, OSError) and failure.strerror and failure.filename:
        return f"{failure.strerror}: {Path(failure.filename).name}"
    text = (str(failure).strip().splitlines() or [""])[0]
    if codes := _TENSORSTORE_ERRNO.findall(text):
        return os.strerror(int(codes[0]))  # its own words are long and end with this
    if "TensorStore" in text:
        return "the files of its arrays cannot be read"
    text = text if len(text) <= longest else text[:longest] + " …"
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
