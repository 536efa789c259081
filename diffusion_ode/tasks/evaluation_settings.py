"""An evaluation that was interrupted goes on, but never under other settings."""

from pathlib import Path
from typing import Any

from diffusion_ode.computation import keeps_values
from diffusion_ode.configs import documents
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.loaded_model import LoadedModel
from diffusion_ode.tasks.run import Run

# No row depends on them: a longer prefix of the same test set is the same evaluation, gone further,
# and the standard error's parts are found anew.
_FREE = ("num_images", "error_images")


class EvaluationSettings:
    """What an evaluation's rows depend on, kept as `settings.json` in its folder.

    Args:
      folder: of the evaluation.
      run: whose evaluation it is.
      loaded: the parameters that are judged.
      data: that were loaded: their name and fingerprint.
    """

    def __init__(self, folder: Path, run: Run, loaded: LoadedModel, data: str):
        arguments = run.document["arguments"]
        evaluate = dict(arguments["evaluate"])
        evaluate["arguments"] = {
            name: value for name, value in evaluate["arguments"].items() if name not in _FREE
        }
        self._experiment = run.experiment
        self._path = folder / "settings.json"
        self._settings = {
            "checkpoint": loaded.facts["digest"],
            "data": data,
            "model": arguments["model"],
            "evaluate": evaluate,
        }

    def check(self) -> None:
        """Refuses to go on with an evaluation that was begun under others.

        Raises:
          UserError: says what differs, with both sides.
        """
        if not self._path.exists() or not self._has_rows():
            return
        match documents.read(self._path):
            case {"dict": dict() as before}:
                what = "; ".join(self._differences(before))
            case _:
                what = f"{self._path.name} is damaged"
        if what:
            raise UserError(
                f"{self._path.parent} holds an evaluation under other settings ({what}): give this"
                " one a name of its own by --set evaluate.name=…"
            )

    def _has_rows(self) -> bool:
        """Whether a row was found under the settings that are kept."""
        table = self._path.with_name("per_example.csv")
        return table.exists() and table.read_bytes().count(b"\n") > 1

    def write(self) -> None:
        """Keeps them for whoever goes on with it."""
        documents.write({"dict": self._settings}, self._path)

    def _differences(self, before: dict[str, Any]) -> list[str]:
        then, now = ({"call": "", "arguments": which} for which in (before, self._settings))
        return [
            f"its {change.path} was not recorded"
            if change.before is None and change.path in self._settings
            else str(change)
            for change in documents.difference(then, now)
            if not keeps_values(self._experiment, change.path)
        ]
