"""Where prepared data sets live: decided here and nowhere else."""

import os
from pathlib import Path

ENVIRONMENT_VARIABLE = "DIFFUSION_ODE_DATA"
DEFAULT_DATA_DIR = Path("~/.cache/diffusion_ode")


def resolve_data_dir(flag: str | Path | None = None) -> Path:
    """The folder of prepared data: the flag, else `$DIFFUSION_ODE_DATA`, else the user's cache."""
    chosen = flag or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_DATA_DIR
    return Path(chosen).expanduser()
