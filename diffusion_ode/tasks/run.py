"""What a task is given, and what a task is."""

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from diffusion_ode.configs import documents
from diffusion_ode.configs.documents import Document
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.tasks import registry
from diffusion_ode.tasks.subject import Source, Subject
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.provenance import LaunchRecord


@dataclass(frozen=True)
class Run:
    """One launch: an experiment, and what this launch was asked.

    Attributes:
      experiment: the built experiment.
      document: the same as a config document, every default spelt out.
      name: the experiment's name.
      workdir: the folder that everything is written to; it exists once the run has begun.
      command: the command line's words, as typed, from the program's name on.
      init_from: `WORKDIR[@STEP]` or `reference:PATH`: where a new training starts warm, or where
        evaluate and sample take the parameters from.
      checkpoint: the step that evaluate and sample use, or "best"; None: the newest.
      data_dir: where prepared data sets lie; None: the default place.
      options: the flags that only this task takes, without dashes.
      continue_with_changes: whether a training may go on under another optimisation.
      recorder: takes facts about this launch that are worth keeping.
    """

    experiment: Subject
    document: Document
    name: str
    workdir: Path
    command: tuple[str, ...] = ()
    init_from: str | None = None
    checkpoint: str | None = None
    data_dir: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    continue_with_changes: bool = False
    recorder: LaunchRecord = field(default_factory=LaunchRecord)

    def begin(self, **facts: Any) -> None:
        """Makes the workdir and this launch's entry in `run.json`, with these facts.

        A task calls it when nothing can refuse the launch any more, and writes nothing before: a
        refused launch leaves no trace.
        """
        if not processes.is_leader():
            return
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.recorder.add(facts)
        self.recorder.begin()

    @property
    def command_line(self) -> str:
        """What was typed."""
        return shlex.join(["python", *self.command])

    @property
    def log_path(self) -> Path:
        """What was on the screen."""
        return self.workdir / "log.txt"

    @property
    def config_path(self) -> Path:
        """The config of the training in this workdir."""
        return self.workdir / "config.json"

    def save_config(self) -> None:
        """Writes `config.json`; for whoever holds the workdir, so only once it is locked."""
        if processes.is_leader():
            documents.write(self.document, self.config_path)

    def load_data(self, source: Source | None = None) -> Any:
        """The images, which are the same in every process.

        Args:
          source: of them; None takes the experiment's.

        Raises:
          UserError: they are not there, or not the same.
        """
        images = processes.together(lambda: (source or self.experiment.data).load(self.data_dir))
        processes.check_same("The data's fingerprint", images.fingerprint)
        return images

    def saved_config(self) -> Document | None:
        """The workdir's `config.json`; None if there is none yet.

        Raises:
          UserError: it cannot be read.
        """
        if not self.config_path.exists():
            return None
        document = documents.read(self.config_path)
        if not documents.is_call(document) or document["call"] != self.document["call"]:
            raise UserError(
                f"{self.config_path} is not the config of such a run: restore it from a checkpoint"
                " of its run, or give another --workdir."
            )
        return document

    def config_changes(self) -> list[documents.Change]:
        """How this launch's config differs from the saved one; empty if there is none yet."""
        saved = self.saved_config()
        return [] if saved is None else documents.difference(saved, self.document)

    def say_changes(self, task: str, say: Callable[[str], None]) -> None:
        """Says which settings of a task differ from those that the workdir's training was given.

        In Python `DiffusionModel.load` takes the training's own.
        """
        for change in self.config_changes():
            if change.path.startswith(f"{task}."):
                say(f"unlike {self.config_path}: {change.path}: {change.before} → {change.after}")

    def next_command(self, *flags: str) -> str:
        """This launch's command line with other flags: what to type next.

        Keeps `--exp`, `--workdir`, `--data_dir` and every `--set`, and `--init_from` where it still
        counts; drops what belongs to this task.

        Args:
          flags: to be appended, e.g. "--task=sample".
        """
        stay = {"--exp", "--workdir", "--data_dir", "--set"}
        if self.init_from is not None:
            stay.add("--init_from")
        asked = _flags(flags)
        task = dict(asked).get("--task")
        others = {entry.name for entry in registry.TASKS if task not in (None, entry.name)}
        words: dict[tuple[str, str], list[str]] = {}
        before = [(flag, value) for flag, value in _flags(self.command[1:]) if flag in stay]
        for flag, value in [*before, *asked]:
            path = value.partition("=")[0] if flag == "--set" else ""
            if path.partition(".")[0] not in others:
                words.pop((flag, path), None)  # the last one counts
                words[flag, path] = [flag, value] if path else [f"{flag}={value}"]
        return shlex.join(["python", *self.command[:1], *itertools.chain(*words.values())])


def _flags(words: Sequence[str]) -> list[tuple[str, str]]:
    """Splits `--flag=value`, `--flag value` or `--flag` into (flag, value)."""
    found, rest = [], list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not equals and rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        found.append((flag, value))
    return found


@runtime_checkable
class ChecksFirst(Protocol):
    """A task that can tell before a training, after which it is to run, what it would refuse."""

    def check(self, experiment: Subject) -> None:
        """Reads no data and compiles nothing; raises UserError."""
        ...


@runtime_checkable
class ChecksReading(Protocol):
    """A task that can tell before a training, after which it is to run, what it would not find."""

    def check_reading(self, run: Run) -> None:
        """Together: looks at the files and images that it is to read; raises UserError.

        What is made only by a task before it, as `subject.made_before` tells, may still be missing.
        """
        ...


@runtime_checkable
class Task(Protocol):
    """Something a run can do; a frozen dataclass whose fields are its settings."""

    def run(self, run: Run) -> TaskResult:
        """Does it, reading and writing in the run's workdir; says what came of it.

        Raises:
          UserError: the user can mend it.
          Interrupted: asked to stop; everything is saved.
        """
        ...
