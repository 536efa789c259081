"""What can be wrong with data that the user can put right."""

import contextlib
from collections.abc import Iterator

from diffusion_ode.errors import UserError
from diffusion_ode.foreign import refused


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


def reading(
    file: object, expected: str, what: str = "cannot be read", remedy: str | None = None
) -> contextlib.AbstractContextManager[None]:
    """The boundary of a reader of data: whatever is raised inside becomes `DamagedData`.

    Args:
        file: what is read, for the message.
        expected: of it.
        what: the finding, to which the exception's own words are added.
        remedy: as `damaged` has it.
    """
    return refused(lambda why: damaged(file, f"{what} ({why})", expected, remedy))


@contextlib.contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Where a reader of a format finds damage, what the user of this data set can do about it."""
    try:
        yield
    except DamagedData as error:
        if error.finding is None:
            raise
        raise DamagedData(f"{error.finding}: {remedy}.") from error
