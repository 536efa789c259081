"""An evaluation that was interrupted goes on, but never under other settings."""

import itertools
from pathlib import Path
from typing import Any

from diffusion_ode.computation import keeps_values
from diffusion_ode.configs import documents
from diffusion_ode.configs.documents import Document
from diffusion_ode.diffusion.dequantization import HasDigest
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.earlier_result import earlier_result
from diffusion_ode.evaluation.judged_images import JudgedImages
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.foreign import PIECE, lines_of
from diffusion_ode.reporting.quantities import counted

ANOTHER_NAME = "give this one a name of its own by --set evaluate.name=…"
# No row depends on them: the first images of a split are the same however many are judged, the
# standard error's parts are found anew, and the folder has its name.
_FREE = ("num_images", "error_images", "name")


class EvaluationSettings:
    """What an evaluation's rows depend on, kept as `settings.json` in its folder.

    Args:
      folder: of the evaluation.
      experiment: whose evaluation it is; says which of its fields keep all values.
      document: the same as a config document.
      loaded: the model that is judged.
      images: that it is judged on.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Any,
        document: Document,
        loaded: LoadedModel,
        images: JudgedImages,
    ):
        arguments = document["arguments"]
        self._experiment = experiment
        self._num_images = len(images)
        self._path = folder / "settings.json"
        self._settings = {
            "checkpoint": loaded.facts["digest"],
            "data": images.split_identity,
            "model": arguments["model"],
            "evaluate": _binding(arguments["evaluate"]),
        }
        ode = experiment.evaluate.ode
        if ode is not None and isinstance(ode.dequantization, HasDigest):
            self._settings["dequantization"] = ode.dequantization.digest(loaded.model)

    def check(self) -> None:
        """Refuses to go on with one under other settings, or to replace one of another size.

        Raises:
          UserError: says what differs, with both sides.
        """
        if self._path.exists() and self._has_rows():
            try:
                what = "; ".join(self._differences(documents.read(self._path)["dict"]))
            except Exception:  # anything may be in it, and no checkpoint has another one
                what = f"{self._path.name} is damaged"
            if what:
                raise UserError(
                    f"{self._path.parent} holds an evaluation under other settings ({what}):"
                    f" {ANOTHER_NAME}"
                )
        earlier = earlier_result(self._path.parent)
        if earlier is not None and earlier["data"]["num_images"] != self._num_images:
            raise UserError(
                f"{self._path.parent} holds the result of"
                f" {counted(earlier['data']['num_images'], 'image')},"
                f" which one of {self._num_images} would replace: {ANOTHER_NAME}"
            )

    def _has_rows(self) -> bool:
        """Whether a row was found under the settings that are kept."""
        table = self._path.with_name("per_example.csv")
        if not table.exists():
            return False
        with table.open("rb") as file:
            return any(itertools.islice(lines_of(file, PIECE), 1, None))

    def write(self) -> None:
        """Keeps them for whoever goes on with it."""
        documents.write({"dict": self._settings}, self._path)

    def _differences(self, before: dict[str, Any]) -> list[str]:
        if "evaluate" in before:
            before = {**before, "evaluate": _binding(before["evaluate"])}
        then, now = ({"call": "", "arguments": which} for which in (before, self._settings))
        return [
            f"its {change.path} was not recorded"
            if change.before is None and change.path in self._settings
            else str(change)
            for change in documents.difference(then, now)
            if not keeps_values(self._experiment, change.path)
        ]


def _binding(evaluate: Document) -> Document:
    """The arguments that rows depend on."""
    arguments = evaluate["arguments"].items()
    return {**evaluate, "arguments": {name: it for name, it in arguments if name not in _FREE}}
