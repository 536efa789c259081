"""An experiment that trains and evaluates in a blink, and a run of it."""

import dataclasses
from pathlib import Path

import pytest

from data.pipeline import Data
from data.sources.digits import Digits
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.sampling import OdeSampler
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.tasks.evaluate import Evaluate
from diffusion_ode.tasks.experiment import Experiment
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.sample import Sample
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.sharding import Mesh
from tests.small_network import SmallNetwork

LOOSE = PIController(rtol=1e-3, atol=1e-3, log_density_tolerance=1e-3)


def experiment(**evaluate) -> Experiment:
    return Experiment(
        model=Model(
            VariancePreserving(),
            LinearSchedule(-7.876),
            VelocityPrediction(),
            SmallNetwork(),
            Pixels((8, 8, 1), 17),
        ),
        data=Data(Digits()),
        train=Train(num_steps=2, batch_size=8, log_every=1),
        evaluate=Evaluate(
            **{
                "num_images": 6,
                "ode": OdeLikelihood(controller=LOOSE, lanes=4),
                "bound": VariationalBound(draws=2),
                "error_images": 3,
                **evaluate,
            }
        ),
        sample=Sample(num_images=5, sampler=OdeSampler(controller=LOOSE, lanes=4)),
        mesh=Mesh(),
    )


def run_in(workdir: Path, made: Experiment, **options) -> Run:
    """A run whose document holds what the tasks compare, without a config library."""
    others = repr(dataclasses.replace(made.evaluate, error_images=0, num_images=None, name=None))
    settings = {"error_images": made.evaluate.error_images, "others": others}
    evaluate = {"call": "Evaluate", "arguments": settings}
    data = {"call": "Data", "arguments": {"held_out": made.data.held_out}}
    arguments = {"evaluate": evaluate, "model": "small", "data": data}
    document = {"call": "Experiment", "arguments": arguments}
    command = ("launch/run.py", "--exp=small")
    return Run(made, document, "small", workdir, command, options=options)


@pytest.fixture(scope="session")
def trained_workdir(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("trained")
    made = experiment()
    made.train.run(run_in(workdir, made))
    return workdir


@pytest.fixture
def workdir(trained_workdir, tmp_path) -> Path:
    """A folder of its own with the same checkpoints."""
    (tmp_path / "checkpoints").symlink_to(trained_workdir / "checkpoints")
    return tmp_path
