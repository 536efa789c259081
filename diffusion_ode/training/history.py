"""Under which settings, and by which code, a training's steps were taken: `history.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_ode.configs.documents import Document, difference
from diffusion_ode.configs.upgrade import upgraded
from diffusion_ode.foreign import refused
from diffusion_ode.workdir.result_files import read_json, write_json

NAME = "history.json"


def remember(
    workdir: Path, step: int, document: Document, code: Mapping[str, Any], before: Document = None
) -> None:
    """Notes what the steps after `step` are taken under, if it is not what those before were.

    Notes of that step and of later ones go: a training that was killed goes on from an earlier step
    than it had come to.

    Args:
      workdir: of the training.
      step: from which it goes on.
      document: its config.
      code: facts of the code.
      before: the config in force until now, for a workdir that has no history yet.
    """
    path = workdir / NAME
    with refused(lambda why: f"{path} is damaged ({why}): move it away, and run again."):
        notes = _notes(path) if path.exists() else []
        if before is not None and not notes:
            notes = [{"after_step": 0, "changes": [], "code": None, "config": before}]
        notes = [note for note in notes if note["after_step"] < step]
        changes = difference(upgraded(notes[-1]["config"]), document) if notes else []
        same_code = bool(notes) and notes[-1]["code"] == code
    if changes or not same_code:
        words = [str(change) for change in changes]
        note = {"after_step": step, "changes": words, "code": code, "config": document}
        notes.append(note)
    write_json(path, {"settings": notes})


def _notes(path: Path) -> list[dict[str, Any]]:
    found = read_json(path)
    if not isinstance(found, dict) or set(found) != {"settings"}:
        raise ValueError("it has something else than settings")
    if not isinstance(found["settings"], list):
        raise ValueError("its settings are no list")
    return found["settings"]
