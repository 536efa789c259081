"""The user's own folder, which a container's user may not have."""

from pathlib import Path

from diffusion_ode.errors import UserError


def expanded(path: str | Path) -> Path:
    """The path with `~` spelt out.

    Raises:
      UserError: there is no such folder to spell out.
    """
    try:
        return Path(path).expanduser()
    except (RuntimeError, TypeError) as error:
        if isinstance(error, TypeError):
            raise UserError(f"{path!r} is no path: give the name of a folder or file.") from error
        raise UserError(
            f"{path} cannot be found, as there is no such home directory: write the path without ~."
        ) from error
