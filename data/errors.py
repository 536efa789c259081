"""What can be wrong with data that the user can put right."""

import contextlib
from collections.abc import Iterator

from diffusion_ode.errors import UserError, in_words


class MissingData(UserError):
    """A data set that has not been prepared yet; the text says how to prepare it."""


class DamagedData(UserError):
    """A file that is not what it should be: truncated, altered, hostile or of another kind.

    The text names the file, what was expected of it, what was found and the remedy.

    Attributes:
        finding: the text without its remedy, where only a caller knows that; see `remedied`.
    """

    finding: str | None = None


def damaged(file: object, found: str, expected: str, remedy: str | None = None) -> DamagedData:
    """The sentence for a file that is not what it should be: file, finding, rule and remedy."""
    finding = f"{file} {found}, where {expected} is expected"
    error = DamagedData(f"{finding}: {remedy or 'save it anew'}.")
    if remedy is None:
        error.finding = finding
    return error


@contextlib.contextmanager
def reading(file: object, expected: str, what: str = "cannot be read") -> Iterator[None]:
    """The boundary of a reader of foreign bytes, on which anything at all may be raised.

    Args:
        file: what is read, for the message.
        expected: of it.
        what: the finding, to which the exception's own words are added.

    Raises:
        DamagedData: whatever was raised inside, which is its cause.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise damaged(file, f"{what} ({in_words(error)})", expected) from error


@contextlib.contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Where a reader of a format finds damage, what the user of this data set can do about it."""
    try:
        yield
    except DamagedData as error:
        if error.finding is None:
            raise
        raise DamagedData(f"{error.finding}: {remedy}.") from error
