"""An evaluation that was interrupted goes on, but never under other settings."""

from pathlib import Path

from diffusion_ode import documents
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.trained import Trained


class EvaluationSettings:
    """What an evaluation's figures depend on, kept as `settings.json` in its folder."""

    def __init__(self, folder: Path, run: Run, source: Trained):
        evaluate = dict(run.document["arguments"]["evaluate"])
        # A longer prefix of the same test set is the same evaluation, gone further.
        evaluate["arguments"] = {
            name: value for name, value in evaluate["arguments"].items() if name != "num_images"
        }
        self._path = folder / "settings.json"
        self._settings = {
            "dict": {
                "checkpoint": source.facts["digest"],
                "data": source.facts.get("data_fingerprint"),
                "evaluate": evaluate,
            }
        }

    def check(self) -> None:
        """Refuses to go on with an evaluation that was begun under others.

        Raises:
          UserError: says what differs.
        """
        if not self._path.exists():
            return
        before = documents.read(self._path)
        if before != self._settings:
            match before:
                case {"dict": {"evaluate": {"call": str(), "arguments": dict()} as evaluate}}:
                    changes = documents.difference(evaluate, self._settings["dict"]["evaluate"])
                    what = "; ".join(map(str, changes)) or "another checkpoint or data set"
                case _:
                    what = f"{self._path.name} is damaged"
            raise UserError(
                f"{self._path.parent} holds an evaluation under other settings ({what}): give this"
                " one a name of its own by --set evaluate.name=…"
            )

    def write(self) -> None:
        """Keeps them for whoever goes on with it."""
        documents.write(self._settings, self._path)
