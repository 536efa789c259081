"""Training steps for the benchmarks: an experiment's own, and variations of it."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from diffusion_ode.costs.target import slice_devices
from diffusion_ode.errors import UserError
from diffusion_ode.training.program import CompiledStep, TrainProgram
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import override


def experiment_of(name: str, settings: Sequence[str] = ()) -> Any:
    """A registered experiment with settings as `--set` takes them, built."""
    return build(override(registry.configuration_of(registry.find(name)), settings))


def program_of(
    name: str, settings: Sequence[str] = (), devices: Sequence[Any] | None = None
) -> TrainProgram:
    """The compiled side of its training, on this machine's devices or on those of a slice."""
    experiment = experiment_of(name, settings)
    return experiment.train.program(experiment, experiment.mesh.build(devices))


@dataclass
class Stepper:
    """A compiled step that is called over and over on one batch.

    Attributes:
      program: what it is of.
      step: compiled; it consumes the state.
      state, batch: what it is called on.
    """

    program: TrainProgram
    step: CompiledStep
    state: Any
    batch: Any

    @classmethod
    def of(cls, program: TrainProgram, **changes: Any) -> "Stepper":
        """The step of a program, or of a variation of it in some fields."""
        program = dataclasses.replace(program, **changes)
        return cls(program, program.compile_step(), program.fresh_state(), random_batch(program))

    @property
    def temporary_bytes(self) -> int:
        """That the compiled step needs beside its arguments and results."""
        return self.step.executable.memory_analysis().temp_size_in_bytes

    def __call__(self, batch: Any = None):
        self.state, metrics = self.step(self.state, self.batch if batch is None else batch)
        return self.state, metrics


def random_batch(program: TrainProgram):
    """Images of random levels: no step is faster on them than on others."""
    shape, levels = program.abstract_batch["image"].shape, program.model.pixels.levels
    image = jax.random.randint(jax.random.key(0), shape, 0, levels).astype("uint8")
    return {"image": image, "flag": jax.numpy.zeros(shape[0])}


def slice_to_compile_for(parser: argparse.ArgumentParser, topology: str) -> Sequence[Any]:
    """The devices of a TPU slice; a sentence and the end if there is none of that name."""
    try:
        return slice_devices(topology)
    except UserError as error:
        parser.exit(2, f"{error}\n")


def flags(description: str | None, *, rounds: int, exp: str = "digits_vp"):
    """A parser of the flags that all benchmarks of steps have."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--exp", default=exp)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    return parser


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f}"
