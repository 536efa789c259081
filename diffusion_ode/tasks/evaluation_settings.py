"""An evaluation that was interrupted goes on, but never under other settings."""

from pathlib import Path

from diffusion_ode import documents
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.trained import Trained


def check_settings(folder: Path, run: Run, source: Trained) -> None:
    """An evaluation goes on only under the settings it was begun with."""
    path = folder / "settings.json"
    evaluate = dict(run.document["arguments"]["evaluate"])
    # A longer prefix of the same test set is the same evaluation, gone further.
    evaluate["arguments"] = {k: v for k, v in evaluate["arguments"].items() if k != "num_images"}
    settings = {
        "dict": {
            "checkpoint": source.facts["digest"],
            "data": source.facts.get("data_fingerprint"),
            "evaluate": evaluate,
        }
    }
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        documents.write(settings, path)
        return
    before = documents.read(path)
    if before != settings:
        changes = documents.difference(before["dict"]["evaluate"], evaluate)
        what = "; ".join(map(str, changes)) or "another checkpoint or data set"
        raise UserError(
            f"{folder} holds an evaluation under other settings ({what}): give this one a name of"
            " its own by --set evaluate.name=…"
        )
