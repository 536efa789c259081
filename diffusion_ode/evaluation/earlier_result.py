"""What an evaluation has found before: running it again finds no less, and forgets nothing."""

from pathlib import Path
from typing import Any

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.result_files import read_json

_PARTS = ("standard_error_parts", "solver_error", "error_images")
_TIMES = ("seconds", "images_per_second", "compilation_seconds")


def earlier_result(folder: Path, num_images: int) -> dict[str, Any] | None:
    """The `result.json` of the same images; None if there is none, or it cannot be used.

    Args:
      folder: of the evaluation.
      num_images: that are judged now.
    """
    if not (folder / "result.json").exists():
        return None
    try:
        result = read_json(folder / "result.json")
        same = result["data"]["num_images"] == num_images
        complete = all(key in result["ode"] for key in _PARTS) and all(k in result for k in _TIMES)
    except (UserError, KeyError, TypeError):
        return None
    return result if same and complete else None


def has_parts(earlier: dict[str, Any], error_images: int) -> bool:
    """Whether the standard error's parts were found from so many images, or more."""
    return earlier["ode"]["error_images"] >= error_images


def keep_parts(ode: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Puts the earlier parts into the figures of the ODE."""
    ode.update({key: earlier["ode"][key] for key in _PARTS})


def keep_times(result: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Puts the earlier times into a result for which nothing was computed."""
    result.update({key: earlier[key] for key in _TIMES})
