"""The exceptions that mean: the user can mend this."""


class UserError(ValueError):
    """A mistake of the user's.

    Its text is one sentence that gives the value, the rule it broke and the remedy. The launcher
    prints it without a traceback and exits with status 2.
    """


class MissingData(UserError):
    """A data set that has not been prepared yet; the text says how to prepare it."""


class DamagedData(UserError):
    """A file that is not what it should be: truncated, altered, hostile or of another kind.

    The text names the file, what was expected of it, what was found and the remedy.
    """


def damaged(
    file: object,
    found: str,
    expected: str,
    remedy: str = "get it anew (`python -m data.prepare NAME` without --from says where)",
) -> DamagedData:
    """The sentence for a file that is not what it should be: file, finding, rule and remedy."""
    return DamagedData(f"{file} {found}, where {expected} is expected: {remedy}.")
