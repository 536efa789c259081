"""The task that trains a dequantisation for a trained model, and what an evaluation makes of it."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check, check_fields
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.configs import construction
from diffusion_ode.costs.lanes import check_draws_fit
from diffusion_ode.diffusion.conditional_flow import ConditionalFlow, placed_by_flow
from diffusion_ode.diffusion.model import Model, abstract_parameters
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import refused
from diffusion_ode.home import expanded
from diffusion_ode.objectives.dequantized_bound import DequantizedBound
from diffusion_ode.tasks.kept_apart import check_workdir
from diffusion_ode.tasks.loading import load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Subject
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.optimizer import AdamW, WarmedUpThenCosine
from diffusion_ode.training.state import initial_state
from diffusion_ode.training.step import ExponentialAverage, make_train_step

FOLDER = "dequantizer"


def _short_training() -> Train:
    return Train(
        num_steps=1000,
        batch_size=32,
        optimizer=AdamW(WarmedUpThenCosine(peak=2e-3)),
        average=ExponentialAverage(0.99, warmup=True),
        checkpoint_every=250,
        validation_images=0,
    )


@dataclass(frozen=True)
class Dequantizer:
    """How a dequantisation is trained for the averaged parameters of a trained model.

    It has a folder of its own in the workdir, with all that a training writes, and is resumed as
    one. An evaluation takes it by `evaluate.ode.dequantization=learned_dequantization('WORKDIR')`.

    Args:
      flow: q(u | x).
      train: how; its objective is the dequantised bound, whatever is set.
    """

    flow: ConditionalFlow = field(default_factory=ConditionalFlow)
    train: Train = field(default_factory=_short_training)

    def __post_init__(self):
        check_fields(self)
        for name, nothing in (("pictures_every", None), ("validation_images", 0)):
            if (given := getattr(self.train, name)) != nothing:
                raise UserError(
                    f"dequantizer.train.{name} = {given}, but a dequantisation alone neither draws"
                    f" nor judges images: set it to {nothing}."
                )

    def check(self, experiment: Subject) -> None:
        """Refuses a batch without memory or devices for it; traces a step, and compiles nothing."""
        train, model = self.train, experiment.model
        images = train.batch_size // train.accumulation
        check_draws_fit("dequantizer.train.batch_size", model, images, 1)
        experiment.mesh.build().check_batch(train.batch_size, train.accumulation)

        def step(parameters, batch):
            density = model.bound(parameters)
            objective, of_flow = DequantizedBound(density, parameters), self._of_flow(density)
            state = initial_state(of_flow, objective, train.optimizer, jax.random.key(0))
            pieces = (of_flow, objective, train.optimizer, train.average)
            parts = train.accumulation
            made = make_train_step(*pieces, num_steps=train.num_steps, accumulation=parts)
            return made(state, batch)

        image = jax.ShapeDtypeStruct((train.batch_size, *model.pixels.shape), jnp.uint8)
        flag = jax.ShapeDtypeStruct((train.batch_size,), jnp.float32)
        jax.eval_shape(step, abstract_parameters(model), {"image": image, "flag": flag})

    def check_reading(self, run: Run) -> None:
        """Refuses what lies where the training will write."""
        processes.by_leader(lambda: check_workdir(run.workdir / FOLDER))

    def run(self, run: Run) -> TaskResult:
        """Trains in `WORKDIR/dequantizer`, from wherever that stands to the end."""
        self.check_reading(run)
        loaded = load_model(run, print)
        density = loaded.model
        experiment: Any = dataclasses.replace(
            run.experiment,  # pyright: ignore[reportArgumentType]
            model=self._of_flow(density),
        )
        objective = DequantizedBound(density, jax.device_get(loaded.parameters))
        inner = dataclasses.replace(
            run, experiment=experiment, workdir=run.workdir / FOLDER, init_from=None
        )
        result = dataclasses.replace(self.train, objective=objective).run(inner)
        learned = f"learned_dequantization('{run.workdir}')"
        flags = ["--task=evaluate", f"--set=evaluate.ode.dequantization={learned}"]
        return dataclasses.replace(result, next_flags=flags)

    def _of_flow(self, density: Model) -> "FlowModel":
        flow: Any = self.flow  # which has not all of a network, and `FlowModel` asks for no more
        of = (density.path, density.schedule, density.parameterization, flow, density.pixels)
        return FlowModel(*of)


@dataclass(frozen=True)
class FlowModel(Model):
    """A density's path, schedule and pixels, with a flow in the network's place."""

    def init(self, key):
        image = jnp.zeros((1, *self.pixels.shape))
        return self.network.init(key, image, image)["params"]


@dataclass(frozen=True)
class LearnedDequantization:
    """A trained flow: log P(k) ≥ log p0(z) − log q(z|k); see `ConditionalFlow`.

    Args:
      workdir: in which the task `dequantizer` has trained it; its newest checkpoint counts.
    """

    workdir: str

    closed_form_entropy: ClassVar[bool] = False

    __post_init__ = check_fields

    def gamma(self, model):
        return model.schedule.gamma_0

    def draw(self, model, key):
        return jax.random.normal(key, model.pixels.shape)

    def digest(self, model: Model) -> str:
        """Of the parameters that count now; an evaluation's rows depend on them."""
        return self._newest(model)[2]

    def start(self, model, levels, noise):
        with jax.ensure_compile_time_eval():  # read now, also while something is traced
            flow, parameters, _ = self._newest(model)
        return placed_by_flow(flow, parameters, model, levels, noise)

    def _newest(self, model: Model) -> tuple[ConditionalFlow, Any, str]:
        folder = expanded(self.workdir) / FOLDER / "checkpoints"
        steps = StoredCheckpoints(folder).list_steps()
        if not steps:
            raise UserError(
                f"{self.workdir} holds no trained dequantisation: train one there with"
                " --task=dequantizer, or name another folder."
            )
        return _trained(folder, steps[-1], tuple(model.pixels.shape))


@functools.lru_cache(maxsize=2)
def _trained(folder: Path, step: int, shape: tuple[int, ...]) -> tuple[ConditionalFlow, Any, str]:
    checkpoints = StoredCheckpoints(folder)
    document = checkpoints.read_document(step)
    with refused(lambda why: f"The config in {folder} has no dequantisation ({why}): train anew."):
        made_of = document["arguments"]["dequantizer"]["arguments"]["flow"]
        flow = check("flow", construction.build(made_of), ConditionalFlow)
    init: Callable = flow.init
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    abstract = jax.eval_shape(init, jax.random.key(0), image, image)["params"]
    restored = checkpoints.restore_parameters({"ema": abstract}, step)
    return flow, jax.device_get(restored.state["ema"]), restored.facts["digest"]
