"""The task that trains."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.stored import BY_TEST, StoredCheckpoints
from diffusion_ode.configs import documents
from diffusion_ode.costs.lanes import check_images, check_lanes
from diffusion_ode.costs.utilisation import utilisation
from diffusion_ode.distributed import processes
from diffusion_ode.distributed.interruption import Interruption
from diffusion_ode.errors import UserError
from diffusion_ode.inference.sampling import ChecksModel, OdeSampler, Sampler, drawn_in_order
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.objective import Objective
from diffusion_ode.randomness import stream_key
from diffusion_ode.ranges import Count, CountFromZero, Seed
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.image_grid import image_grid
from diffusion_ode.reporting.jsonl_writer import JsonlWriter
from diffusion_ode.reporting.metric_writers import MetricWriter, MetricWriters
from diffusion_ode.reporting.progress import Progress, duration
from diffusion_ode.reporting.tensorboard_writer import TensorBoardWriter
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.heun import Heun
from diffusion_ode.tasks.loading import find_images
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Subject
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.tasks.train_in_words import introduce, steps_in_words, validated
from diffusion_ode.training.beginning import begin, check_changes
from diffusion_ode.training.data_identity import DataIdentity
from diffusion_ode.training.history import remember
from diffusion_ode.training.loop import Intervals, TrainLoop, check_in_calls
from diffusion_ode.training.optimizer import AdamW, Optimizer
from diffusion_ode.training.origins import parse_origin
from diffusion_ode.training.profiling import Profiler, Steps
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Placement
from diffusion_ode.training.state import TrainState
from diffusion_ode.training.step import ExponentialAverage
from diffusion_ode.training.validation import (
    VALIDATION,
    StopRule,
    ValidationCurve,
    validation_curve,
)
from diffusion_ode.training.warm_start import WarmStart
from diffusion_ode.workdir.code import code_facts
from diffusion_ode.workdir.lock import workdir_lock

# The parts of a config that shape a training: of the others no curve depends.
_OF_TRAINING = ("model", "data", "train", "mesh")


def _quick_sampler() -> OdeSampler:
    """Good enough to look at: 16 Heun steps."""
    return OdeSampler(solver=Heun(), controller=FixedSteps(16), lanes=16)


@dataclass(frozen=True)
class Train:
    """How a model is trained.

    Args:
      num_steps: optimiser steps of this run.
      batch_size: images per optimiser step, over all devices.
      accumulation: parts that a batch is divided into.
      steps_per_call: in one dispatch, for accelerators; a CPU would only compile them for longer.
      objective, optimizer, average: what is minimised, how, and what is averaged for evaluation.
      warm_start: what is taken over from another run, and from which.
      seed: of parameters, order of the data and all noise.
      log_every, checkpoint_every: in steps.
      keep_checkpoints: of the newest; the one with the lowest bound on held-out images is kept too.
      validate_every: steps between two judgements of held-out images; None chooses so that they
        take at most a fiftieth of the training's time.
      validation_images: how many are judged; 0 for none.
      validate_on: "validation", or "test" for watching only: test images choose nothing.
      validation_bound: how an image is judged, under noise that stays the same.
      stop_when: ends the training early, such as `NoImprovement(patience=5)`; None never.
      pictures_every: steps between two grids of samples in TensorBoard; None for none.
      picture_sampler: draws them.
      num_pictures: samples in a grid.
      writers: where metrics and pictures go.
      profile: steps that are recorded for TensorBoard's profile, such as `Steps(100, 110)`.
    """

    num_steps: Count = 1000
    batch_size: Count = 128
    accumulation: Count = 1
    steps_per_call: Count = 1
    objective: Objective = field(default_factory=FlowMatching)
    optimizer: Optimizer = field(default_factory=AdamW)
    average: ExponentialAverage = field(default_factory=ExponentialAverage)
    warm_start: WarmStart = field(default_factory=WarmStart)
    seed: Seed = 0
    log_every: Count = 100
    checkpoint_every: Count = 1000
    keep_checkpoints: Count = 3
    validate_every: Count | None = None
    validation_images: CountFromZero = 1000
    validate_on: Literal["validation", "test"] = VALIDATION
    validation_bound: VariationalBound = field(default_factory=lambda: VariationalBound(draws=2))
    stop_when: StopRule | None = None
    pictures_every: Count | None = None
    picture_sampler: Sampler = field(default_factory=_quick_sampler)
    num_pictures: Count = 16
    writers: tuple[MetricWriter, ...] = field(
        default_factory=lambda: (JsonlWriter(), TensorBoardWriter())
    )
    profile: Steps | None = None

    def __post_init__(self):
        check_fields(self)
        every = ("num_steps", "log_every", "checkpoint_every", "validate_every", "pictures_every")
        check_in_calls(self.steps_per_call, {name: getattr(self, name) for name in every})
        if self.profile is not None:
            self.profile.check_within(self.num_steps)

    def check(self, experiment: Subject) -> None:
        """Refuses a batch without memory for it, and what could not be judged or drawn later."""
        model, sampler = experiment.model, self.picture_sampler
        check_lanes("train.batch_size", model, self.batch_size // self.accumulation)
        if self.validation_images:
            self.validation_bound.check(model)
        if self.pictures_every is not None:
            check_images("train.num_pictures", model, self.num_pictures)
            check_lanes("train.picture_sampler.lanes", model, sampler.lanes)
            if isinstance(sampler, ChecksModel):
                sampler.check(model)

    def check_reading(self, run: Run) -> None:
        """Refuses a --checkpoint, of the tasks that follow, which there will not be then."""
        if run.checkpoint is None:
            return
        judged = {"best": VALIDATION, BY_TEST: "test"}.get(run.checkpoint)
        there = judged == self.validate_on if judged else run.checkpoint == str(self.num_steps)
        if not there or (judged and not self.validation_images):
            raise UserError(
                f"--checkpoint={run.checkpoint} is of the tasks after the training, which"
                f" {'judges no such images' if judged else 'need not leave it'}: leave it out, and"
                " give it to a task by itself, such as --task=evaluate."
            )
        if judged == VALIDATION:
            find_images(run, VALIDATION, 1)

    def run(self, run: Run) -> TaskResult:
        """Trains in the run's workdir, from wherever that stands to the end."""
        with contextlib.ExitStack() as stack:
            console = stack.enter_context(Console(silent=not processes.is_leader()))
            interruption = stack.enter_context(Interruption(console.print, run.recorder.end))
            lock = stack.enter_context(workdir_lock(run.workdir, run.command_line))
            changed: list[str] = []
            if StoredCheckpoints(run.workdir / "checkpoints").agreed_steps():
                processes.together(
                    lambda: check_changes(
                        run.config_changes(),
                        run.experiment,
                        changed.append,
                        workdir=run.workdir,
                        asked_for=run.continue_with_changes,
                    )
                )
            elif run.init_from is not None:
                processes.together(parse_origin(run.init_from).check)
            leaders = self.writers if processes.is_leader() else ()
            writers = stack.enter_context(
                processes.together(lambda: MetricWriters(leaders, run.workdir))
            )

            images, code = run.load_data(), code_facts()
            data = DataIdentity(images.manifest.name, images.fingerprint)
            program = self.program(run.experiment)
            introduce(console, run, program, images)
            validation = validation_curve(
                program,
                images,
                split=self.validate_on,
                every=self.validate_every,
                count=self.validation_images,
                bound=self.validation_bound,
                rule=self.stop_when,
                checkpoint_every=self.checkpoint_every,
                say=console.print,
            )

            checkpoints = stack.enter_context(
                Checkpoints(
                    run.workdir / "checkpoints",
                    keep=self.keep_checkpoints,
                    report=console.print,
                    check_there=lambda: lock.check("config.json"),
                )
            )
            batches = run.experiment.data.train_batches(
                images,
                batch_size=self.batch_size,
                seed=self.seed,
                rows=program.placement.rows(self.batch_size),
            )
            console.print("preparing the state …")
            with interruption.immediately(checkpoints.wait):
                choosing = validation.split == VALIDATION and validation.every is not None
                beginning = begin(
                    program,
                    *(checkpoints, self.warm_start, run.init_from, data, console.print),
                    images.train,
                    held_out=run.experiment.data.held_out if choosing else 0,
                )
                validation.resume(beginning.facts)
                begun_at = int(beginning.state.step)
                taken = begun_at - int(beginning.state.first_step)
                mesh = dict(program.placement.mesh.shape)
                run.begin(data_fingerprint=images.fingerprint, mesh=mesh, step=begun_at)
                console.log_to(run.log_path)
                if taken >= self.num_steps or validation.stops:
                    why = steps_in_words(taken, 0, self.num_steps, self.batch_size)
                    return self._result(run, begun_at, why, validation)
                for sentence in changed:
                    console.print(sentence)
                if processes.is_leader():
                    remember(run.workdir, begun_at, run.document, code, run.saved_config())
                run.save_config()
                console.print(f"{beginning.sentence}; compiling the training step …")
                step = program.compile_step()
                console.print(f"compiled in {step.seconds:.1f} s")

            if beginning.data_state is not None:
                batches.set_state(beginning.data_state)
            resumed = beginning.data_state is not None
            writers.resume_at(begun_at if resumed else None)
            settings = {
                path: value
                for path, value in documents.settings(run.document).items()
                if path.partition(".")[0] in _OF_TRAINING
            }
            writers.write_config(begun_at, documents.text(run.document), settings)
            profiler = stack.enter_context(self._profiler(run.workdir, console, beginning.state))
            loop = TrainLoop(
                program=program,
                step=step,
                batches=batches,
                checkpoints=checkpoints,
                writers=writers,
                progress=Progress(console, "step", self.num_steps),
                interruption=interruption,
                intervals=Intervals(self.log_every, self.checkpoint_every, self.pictures_every),
                document=run.document,
                facts={**data.facts(), "code": code, "seed": self.seed},
                draw_picture=lambda ema: self._picture(run.experiment, ema),
                validation=validation,
                utilisation=utilisation(program),
                profiler=profiler,
            )
            state = loop.run(beginning.state)
            step_now = int(state.step)
            trained = steps_in_words(taken, step_now - begun_at, self.num_steps, self.batch_size)
            return self._result(run, step_now, trained, validation, loop.seconds)

    def _result(
        self, run: Run, step: int, trained: str, curve: ValidationCurve, seconds: float = 0.0
    ) -> TaskResult:
        """What there is at the end of a launch, whatever it has trained."""
        return TaskResult(
            rows=[
                ("trained", trained),
                *validated(curve),
                ("time of the loop", duration(seconds)),
            ],
            written=[
                ("checkpoint", run.workdir / "checkpoints" / str(step)),
                *(("curves", place) for place in (run.workdir / "tensorboard",) if place.exists()),
            ],
            next_flags=["--task=evaluate"],
        )

    def program(self, experiment: Subject, placement: Placement | None = None) -> TrainProgram:
        """The compiled side of this training.

        Args:
          experiment: of which this is the training.
          placement: on which mesh; None for the experiment's own, of the devices that there are.

        Raises:
          UserError: the mesh does not divide the devices or the batch.
        """
        placement = experiment.mesh.build() if placement is None else placement
        placement.check_batch(self.batch_size, self.accumulation)
        return TrainProgram(
            model=experiment.model,
            objective=self.objective,
            optimizer=self.optimizer,
            average=self.average,
            placement=placement,
            num_steps=self.num_steps,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            seed=self.seed,
            steps_per_call=self.steps_per_call,
        )

    def _profiler(self, workdir: Path, console: Console, state: TrainState) -> Profiler:
        """The leader's records; the other processes do the same in the same steps."""
        steps = self.profile if processes.is_leader() else None
        profiler = Profiler(steps, workdir / "tensorboard", console.print)
        profiler.announce(int(state.step) - int(state.first_step))
        return profiler

    def _picture(self, experiment: Subject, ema) -> np.ndarray:
        key = stream_key(self.seed, "pictures")
        ema = processes.on_this_process(ema)
        model = experiment.model.bound(ema)
        drawn = drawn_in_order(self.picture_sampler.draw(model, ema, range(self.num_pictures), key))
        return image_grid(np.stack([s.image for s in drawn]), model.pixels.levels)
