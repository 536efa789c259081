"""What an evaluation has found before: running it again finds no less, and forgets nothing."""

from pathlib import Path
from typing import Any

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.result_files import read_json

_PARTS = ("standard_error_parts", "solver_error", "error_images")
_NAMES = {"images", "dequantization", "probes"}  # of the standard error's parts
_TIMES = ("seconds", "images_per_second", "compilation_seconds")


def earlier_result(folder: Path) -> dict[str, Any] | None:
    """The `result.json` of an evaluation's folder; None if there is none, or it cannot be used."""
    if not (folder / "result.json").exists():
        return None
    try:
        result = read_json(folder / "result.json")
    except UserError:
        return None
    match result:
        case {
            "data": {"num_images": int()},
            "ode": ode,
            "seconds": float(),
            "images_per_second": float() | None,
            "compilation_seconds": float(),
        } if ode is None or _has_parts(ode):
            return result
    return None


def _has_parts(ode: Any) -> bool:
    match ode:
        case {
            "error_images": int(),
            "standard_error_parts": dict(parts),
            "solver_error": None
            | {
                "mean": float(),
                "standard_error": float() | None,
                "rms": float(),
                "num_images": int(),
            },
        }:
            return parts.keys() == _NAMES and all(map(_is_part, parts.values()))
    return False


def _is_part(part: Any) -> bool:
    match part:
        case (
            None
            | {"value": None, "standard_error": float() | None, "num_images": int()}
            | {"value": float(), "standard_error": float(), "num_images": int()}
        ):
            return True
    return False


def kept_parts(earlier: dict[str, Any] | None, error_images: int) -> dict[str, Any] | None:
    """What was found of the ODE's error from so many images, or more; None if from fewer."""
    ode = (earlier or {}).get("ode")
    if ode is None or ode["error_images"] < error_images:
        return None
    return {key: ode[key] for key in _PARTS}


def kept_times(earlier: dict[str, Any] | None) -> dict[str, Any]:
    """The times that were taken when it was computed."""
    return {key: earlier[key] for key in _TIMES} if earlier else {}
