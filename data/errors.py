"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A mistake of the user's.

    Its text is one sentence that gives the value, the rule it broke and the remedy. The launcher
    prints it without a traceback and exits with status 2.
    """
