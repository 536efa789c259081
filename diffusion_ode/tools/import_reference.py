"""Make a workdir of ours from a published checkpoint.

python -m diffusion_ode.tools.import_reference PATH WORKDIR
"""

# Before all other imports: a Ctrl-C may come in any of them.
if __name__ == "__main__":
    from diffusion_ode.leaving import leave_at_once

    leave_at_once()

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.reference import ReferenceCheckpoint, read_reference
from diffusion_ode.command_line import SentenceParser
from diffusion_ode.configs import construction, documents
from diffusion_ode.diffusion.learned_schedule import LearnedSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import NoisePrediction, VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule, NoiseSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes, UniformTimes
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError, in_words
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.exit_statuses import DONE, REFUSED
from diffusion_ode.home import expanded, path_argument, refuse_remote
from diffusion_ode.leaving import leave_in_order, leave_with, status_of
from diffusion_ode.networks.unet import UNet
from diffusion_ode.networks.unet_sizes import UNetSizes, unet_sizes
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.remote import fetched
from diffusion_ode.reporting.quantities import counted
from diffusion_ode.streams import LastingStream
from diffusion_ode.tasks.evaluate import Evaluate
from diffusion_ode.tasks.experiment import Experiment
from diffusion_ode.tasks.sample import Sample
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.data_identity import DataIdentity
from diffusion_ode.training.published_schedule import published_schedule
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.warm_start import WarmStart
from diffusion_ode.workdir.lock import workdir_lock

# What is said on the command line; a file of parameters cannot tell.
PATHS: Mapping[str, Any] = {"vp": VariancePreserving, "sp": StraightPath}
PREDICTIONS: Mapping[str, Any] = {"velocity": VelocityPrediction, "noise": NoisePrediction}
SOURCES = {
    "cifar10": "data.sources.cifar10:Cifar10",
    "imagenet32_old": "data.sources.imagenet32:ImageNet32Old",
    "imagenet32_new": "data.sources.imagenet32:ImageNet32New",
    "fashion_mnist": "data.sources.fashion_mnist:FashionMnist",
}
_DEFAULT_SOURCES = {3: "cifar10", 1: "fashion_mnist"}  # by the channels of the images


@dataclass(frozen=True)
class Imported:
    """What has been made: the sizes of its network, and its step."""

    sizes: UNetSizes
    data: str
    step: int
    prediction: str
    schedule: LearnedSchedule | None = None


def import_reference(
    path: Path, workdir: Path, *, process: str = "vp", prediction: str = "", data: str = ""
) -> Imported:
    """Writes `config.json` and a checkpoint with parameters, average, moments and step.

    The sizes of the network are read off its parameters; training and evaluation have the
    published values, which are the defaults.

    Args:
      path: a `ckpt-N.flax`, or its folder.
      workdir: to be made; it must hold no checkpoints.
      process, prediction, data: keys of PATHS, PREDICTIONS and SOURCES; data "" by the channels,
        prediction "" noise if the file has learned a schedule (VDM), otherwise velocity.

    Raises:
      UserError: the file is none or not the U-Net's, or the workdir is taken.
    """
    refuse_remote(workdir, "WORKDIR ", "give a folder of this machine")
    workdir = expanded(workdir)
    found = read_reference(fetched(path))
    sizes = unet_sizes(found.parameters)
    if sizes is None:
        raise UserError(f"{found.path} does not hold the parameters of a U-Net: give another file.")
    data = data or _DEFAULT_SOURCES.get(sizes.channels, "")
    if not data:
        raise UserError(
            f"{found.path} is for images of {counted(sizes.channels, 'channel')}, which no known"
            " data set has: start an experiment of your own with --init_from=reference:PATH."
        )
    published = published_schedule(found)
    learned = published.learned if published else None
    prediction = prediction or ("noise" if learned else "velocity")
    schedule = learned or LinearSchedule(gamma_0=-13.3, gamma_1=5.0)
    evaluate = Evaluate(quirks=ReferenceQuirks(unit_prior=learned is not None))
    model = (PATHS[process](), schedule, PREDICTIONS[prediction]())
    experiment = _experiment(sizes, *model, data, evaluate)
    _write(experiment, found, workdir)
    return Imported(sizes, data, found.step, prediction, learned)


def _experiment(
    sizes: UNetSizes,
    path: Any,
    schedule: NoiseSchedule,
    parameterization: Any,
    data: str,
    evaluate: Evaluate,
) -> Experiment:
    source = {"call": SOURCES[data], "arguments": {}}
    images = construction.build({"call": "data.pipeline:Data", "arguments": {"source": source}})
    network = UNet(
        features=sizes.features,
        blocks=sizes.blocks,
        attention=sizes.attention,
        # As published with either network; it is used in training only.
        dropout=0.05 if sizes.attention else 0.1,
        fourier_exponents=sizes.fourier_exponents,
    )
    pixels = Pixels(images.shape, images.levels)
    model = Model(path, schedule, parameterization, network, pixels)
    # A schedule decides where uniform times fall; they are what it was learned under.
    times = UniformTimes() if isinstance(schedule, LearnedSchedule) else ImportanceSampledTimes()
    train = Train(objective=FlowMatching(times=times))
    return Experiment(model, images, train, evaluate, Sample(), Mesh())


def _write(experiment: Experiment, found: ReferenceCheckpoint, workdir: Path) -> None:
    document = construction.document_of(experiment)
    train = experiment.train
    assert isinstance(train, Train)
    start = WarmStart(optimizer=found.moments is not None)
    with (
        workdir_lock(workdir),
        Checkpoints(workdir / "checkpoints") as checkpoints,
    ):
        if checkpoints.list_steps():
            raise UserError(f"{workdir} holds checkpoints already: give another WORKDIR.")
        state = start.begin(train.program(experiment), f"reference:{found.path}")
        # Of which images they really were, nothing is known.
        data = DataIdentity(experiment.data.name)
        facts = {"imported_from": str(found.path.absolute()), **data.facts()}
        checkpoints.save(found.step, state, {"next_index": 0}, document, facts=facts)
        checkpoints.wait()
        documents.write(document, workdir / "config.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        options = _parser().parse_args(arguments)
        imported = import_reference(
            options.path,
            options.workdir,
            process=options.process,
            prediction=options.prediction,
            data=options.data,
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        said = f"WORKDIR cannot be written ({in_words(error)}): choose another WORKDIR."
        print(said, file=sys.stderr)
        return REFUSED
    print(f"step {imported.step} is in {options.workdir}")
    print(f"its data are known by name only: {imported.data}")
    print(
        f"the file does not say, so assumed: path {options.process},"
        f" {imported.prediction} prediction"
    )
    if imported.schedule is not None:
        print(
            "its learned schedule is among the parameters, with new moments of the optimiser; the"
            " network's time runs over γ from -13.3 to 5 (assumed)"
        )
    print("evaluate it with")
    print(f"  {_evaluation(imported, options)}")
    return DONE


def _evaluation(imported: Imported, options: argparse.Namespace) -> str:
    """The command that evaluates the workdir, by the experiment whose model it has."""
    published = UNet(features=128 if imported.data == "cifar10" else 256, blocks=32)
    settings = [f"--set=model.network.{s}" for s in imported.sizes.settings(published)]
    if imported.prediction == "noise":
        settings.append("--set=model.parameterization=noise_prediction()")
    if imported.schedule is not None:
        kind = type(imported.schedule)
        fields = [
            f"{name}={value!r}"
            for name, value in vars(imported.schedule).items()
            if value != getattr(kind, name)
        ]
        settings.append(f"--set=model.schedule={kind.__name__}({', '.join(fields)})")
        settings.append("--set=train.objective.times=uniform_times()")
        settings.append("--set=evaluate.quirks.unit_prior=True")
    experiment = f"--exp={imported.data}_{options.process}"
    command = [experiment, f"--workdir={options.workdir}", "--task=evaluate", *settings]
    return shlex.join(["python", "launch/run.py", *command])


def _parser() -> SentenceParser:
    parser = SentenceParser(
        prog="python -m diffusion_ode.tools.import_reference",
        description="Make a workdir of ours from a published checkpoint.",
    )
    parser.add_argument(
        "path", metavar="PATH", type=path_argument, help="a ckpt-N.flax, or its folder"
    )
    parser.add_argument(
        "workdir", metavar="WORKDIR", type=path_argument, help="the workdir to make"
    )
    parser.add_argument("--path", dest="process", choices=PATHS, default="vp")
    parser.add_argument("--prediction", choices=PREDICTIONS, default="")
    parser.add_argument(
        "--data", choices=SOURCES, default="", help="default cifar10, or fashion_mnist if grey"
    )
    return parser


if __name__ == "__main__":
    sys.stdout, sys.stderr = LastingStream(sys.stdout), LastingStream(sys.stderr)
    leave_in_order()
    leave_with(status_of(main))
