"""Where prepared data sets live: decided here and nowhere else."""

import os
from pathlib import Path

from diffusion_ode.errors import UserError
from diffusion_ode.home import refuse_impossible, refuse_remote
from diffusion_ode.remote import CACHE_VARIABLE as ENVIRONMENT_VARIABLE
from diffusion_ode.remote import DEFAULT_CACHE as DEFAULT_DATA_DIR


def resolve_data_dir(flag: str | Path | None = None) -> Path:
    """The folder of prepared data: the flag, else `$DIFFUSION_ODE_DATA`, else the user's cache."""
    chosen = flag or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_DATA_DIR
    remedy = "name a folder of this machine; what is prepared may come from there"
    refuse_remote(chosen, f"--data_dir, or ${ENVIRONMENT_VARIABLE}, ", remedy)
    try:
        folder = Path(chosen).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{chosen} cannot be found, as this user has no home directory: name the folder of"
            f" prepared data by --data_dir=DIR or ${ENVIRONMENT_VARIABLE}."
        ) from error
    refuse_impossible(folder, f"name another by --data_dir=DIR or ${ENVIRONMENT_VARIABLE}")
    return folder
