"""What a workdir tells of its run, for a table of several."""

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from diffusion_ode.configs import documents
from diffusion_ode.configs.documents import Document
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.evaluated import Evaluated, kind_of, list_finished, of_name
from diffusion_ode.foreign import refused
from diffusion_ode.workdir.provenance import launches_of

# Parts of a config that change no figure.
_OF_NO_FIGURE = {
    "": ("after_training", "mesh", "sample", "compare", "compress", "decompress", "tasks"),
    "train": (
        *("log_every", "checkpoint_every", "keep_checkpoints", "steps_per_call", "writers"),
        *("validate_every", "validation_images", "validate_on", "validation_bound"),
        *("pictures_every", "picture_sampler", "num_pictures", "profile"),
    ),
    "evaluate": ("name", "error_images"),
    "evaluate.ode": ("lanes",),
}


@dataclass(frozen=True)
class ReportedRun:
    """A run, and one evaluation of it.

    Attributes:
      workdir: of the run.
      experiment: its name.
      settings: the config as trained and judged, without what changes no figure, and the seed.
      seed: of the training; None if there is none.
      evaluated: None where nothing was evaluated yet.
      step: of the checkpoint that was judged, else of the newest; None if there is none.
      seconds: that its trainings took, from launch to end; None where none has ended.
      code: that trained; None if unknown.
    """

    workdir: Path
    experiment: str
    settings: Document
    seed: Any
    evaluated: Evaluated | None
    step: int | None
    seconds: float | None
    code: Mapping[str, Any] | None

    @classmethod
    def read(cls, workdir: Path, evaluation: Path | None) -> "ReportedRun":
        """Reads the workdir's files.

        Args:
          workdir: of a training.
          evaluation: folder of one of its evaluations.

        Raises:
          UserError: a file cannot be read.
        """
        launches = launches_of(workdir)
        evaluated = Evaluated.read(evaluation) if evaluation is not None else None
        result = evaluated.result if evaluated else {}
        config = documents.read(workdir / "config.json")
        seed = documents.rendered_at(config, "train.seed")
        steps = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal()]
        trained = result.get("code", {}).get("trained") or next(
            (launch.get("code") for launch in reversed(launches)), None
        )
        first = launches[0].get("experiment") if launches else None
        return cls(
            workdir,
            result.get("experiment") or first or workdir.resolve().name,
            _settings(config, result.get("config")),
            seed,
            evaluated,
            result.get("checkpoint", {}).get("step", max(steps, default=None)),
            _training_seconds(launches),
            trained,
        )


def workdirs(paths: Sequence[Path]) -> list[Path]:
    """The workdirs that are named, or that lie in a folder that is named, such as a sweep's.

    Raises:
      UserError: there is none.
    """
    found: list[Path] = []
    for path in paths:
        inner = sorted(file.parent for file in path.glob("*/config.json"))
        if (path / "config.json").exists():
            inner = [path]
        elif not path.is_dir():
            raise UserError(f"{path} is not a folder: name the workdirs of trainings.")
        elif not inner and len(paths) == 1:
            raise UserError(
                f"{path} is neither a workdir nor a folder of some, as there is no config.json:"
                " name the workdirs of trainings."
            )
        found += inner  # `runs/*` may name others' folders beside the runs
    found = list(dict.fromkeys(found))
    if not found:
        raise UserError(
            f"None of the {len(paths)} folders is a workdir, which has a config.json: name those of"
            " trainings."
        )
    return found


def read_runs(folders: Sequence[Path], evaluation: str | None = None) -> list[ReportedRun]:
    """Each run with its newest evaluation of the name that most of them have.

    Args:
      folders: workdirs.
      evaluation: another name, with or without a step, which may have * in it: each run with its
        newest evaluation of every name that matches.

    Raises:
      UserError: no run has an evaluation of that name, or a file cannot be read.
    """
    there = {folder: list_finished(folder) for folder in folders}
    chosen: dict[Path, list[Path]] = {folder: [] for folder in folders}
    if evaluation is None:
        kinds = [kind for found in there.values() for kind in dict.fromkeys(map(kind_of, found))]
        common = max(dict.fromkeys(kinds), key=kinds.count, default=None)
        for folder, found in there.items():
            of_common = [each for each in found if kind_of(each) == common]
            chosen[folder] = (of_common or found)[:1]
    else:
        for folder, found in there.items():
            for name in dict.fromkeys(map(kind_of, found)):
                newest = of_name(found, name)
                if fnmatchcase(name, evaluation) or fnmatchcase(newest.name, evaluation):
                    chosen[folder].append(newest)
        if not any(chosen.values()):
            kinds = dict.fromkeys(kind_of(each) for found in there.values() for each in found)
            raise UserError(
                f"No run has an evaluation named {evaluation}; there are"
                f" {', '.join(kinds) or 'none at all'}."
            )
    return [
        _read(folder, each)
        for folder, several in chosen.items()
        for each in several or ([None] if evaluation is None else [])
    ]


def _read(folder: Path, evaluation: Path | None) -> ReportedRun:
    remedy = "evaluate it anew, or leave it out"
    with refused(lambda why: f"A file of {folder} is not as it was written ({why}): {remedy}."):
        return ReportedRun.read(folder, evaluation)


def _settings(config: Document, judged_under: Document) -> Document:
    """The training's config, with that of `evaluate` as an evaluation had it."""
    arguments = dict(config["arguments"])
    if documents.is_call(judged_under):
        arguments["evaluate"] = judged_under["arguments"].get("evaluate")
    document = {**config, "arguments": arguments}
    for path, names in _OF_NO_FIGURE.items():
        document = _without(document, path.split(".") if path else [], names)
    return _without(document, ["train"], ("seed",))


def _without(document: Document, path: Sequence[str], names: Sequence[str]) -> Document:
    """The document without some fields of the piece at a path, if there is one."""
    if not documents.is_call(document):
        return document
    arguments = document["arguments"]
    if not path:
        kept = {name: value for name, value in arguments.items() if name not in names}
    elif path[0] in arguments:
        kept = {**arguments, path[0]: _without(arguments[path[0]], path[1:], names)}
    else:
        return document
    return {**document, "arguments": kept}


def _training_seconds(launches: Sequence[Mapping[str, Any]]) -> float | None:
    spans = []
    for launch in launches:
        if launch.get("task") == "train" and "stopped" in launch:
            with contextlib.suppress(Exception):  # a record that was damaged tells no time
                started = datetime.datetime.fromisoformat(launch["started"])
                spans.append(datetime.datetime.fromisoformat(launch["stopped"]) - started)
    return sum(span.total_seconds() for span in spans) if spans else None
