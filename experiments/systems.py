"""What experiments on different data sets share: whole systems, and the steps from one to another.

A system is everything but the data. Those here are the published one (Zheng et al. 2023,
arXiv:2305.03935, appendix H) and a small relative of it for a processor of two cores.
"""

import dataclasses
from collections.abc import Callable

import fiddle as fdl

from experiments.config.conversion import explicit
from experiments.registry import Departure, Entry, add

I_DODE = "Zheng et al. 2023, arXiv:2305.03935"
THEOREM = f"{I_DODE}, theorem 3.3"

_NO_CODE_LENGTH = "the figure is a valid code length only without it"
# What every published system does otherwise when its ODE is solved.
SOLVED_OTHERWISE = {
    "evaluate.ode.solver": Departure("RK45", "needs fewer evaluations for the same error"),
    "evaluate.ode.controller": Departure(
        "rtol = atol = 1e-5, the whole batch as one state",
        "each image has its own steps, so that its figure does not depend on the batch",
    ),
}
# What `published` sets otherwise than Zheng et al. and their program.
DEPARTURES = {
    "train.validate_every": Departure(
        10_000, "the interval is chosen so that watching takes no more than 2 % of the time"
    ),
    "train.validation_images": Departure(
        "100 batches", "always the same images, times and noise: the curve's wiggle is the model's"
    ),
    **SOLVED_OTHERWISE,
    "evaluate.quirks.no_log_count": Departure(True, f"K draws without − log K: {_NO_CODE_LENGTH}"),
    "evaluate.quirks.decoder_divides_twice": Departure(
        True, f"the decoder's second division by α0: {_NO_CODE_LENGTH}"
    ),
    "evaluate.quirks.unit_prior": Departure(
        True, "the bound's prior is the N(0, σ1² I) that samples start from, not N(0, I)"
    ),
    "evaluate.quirks.unscaled_uniform": Departure(
        True, "uniform dequantisation starts where the others do, not at γ = −11.8 unscaled"
    ),
    "evaluate.quirks.closed_form_average": Departure(
        True, "one sampled draw in place of the mean of five with a closed-form entropy"
    ),
}

# What `finetuned` does otherwise where gradients are accumulated.
_MOMENTS_KEPT = {
    "train.warm_start.optimizer": Departure(
        False, "accumulating gradients is no reason to forget Adam's moments, as it was silently"
    )
}


def published(
    source: fdl.Config,
    *,
    features: int,
    num_steps: int,
    batch_size: int = 128,
    attention: bool = False,
    dropout: float = 0.1,
) -> fdl.Config:
    """The published variance-preserving system on colour images of 32×32 with 256 levels.

    Args:
      source: of the images.
      features, attention, dropout: of the U-Net, which always has 32 blocks.
      num_steps, batch_size: of the training.
    """
    from diffusion_ode.networks.unet import UNet
    from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
    from diffusion_ode.training.optimizer import AdamW, WarmedUp
    from diffusion_ode.training.step import ExponentialAverage

    network = fdl.Config(
        UNet,
        features=features,
        blocks=32,
        attention=attention,
        dropout=dropout,
        fourier_exponents=(6, 7),
    )
    config = _system(source, network)
    config.train.validate_on = "test"  # papers train on all the other images
    config.train.num_steps = num_steps
    config.train.batch_size = batch_size
    config.train.checkpoint_every = 10_000
    config.train.pictures_every = 10_000
    config.train.optimizer = fdl.Config(
        AdamW,
        learning_rate=fdl.Config(WarmedUp, peak=2e-4, warmup_steps=100, start=1e-8),
        b1=0.9,
        b2=0.99,
        eps=1e-8,
        weight_decay=0.01,
    )
    config.train.average = fdl.Config(ExponentialAverage, decay=0.9999)
    config = solved_carefully(config)
    config.evaluate.ode.divergence = fdl.Config(HutchinsonTrace)  # one probe from end to end
    return config


def small(source: fdl.Config, *, features: int, num_steps: int) -> fdl.Config:
    """A shallow relative of `published` for images of 256 levels, and hours on two cores.

    A short run cannot unlearn features that noise hides, wait for an average over ten thousand
    steps, or let a constant rate settle: hence Fourier features that fade, a shorter average and a
    rate that falls to zero.
    """
    from diffusion_ode.networks.unet import UNet
    from diffusion_ode.training.step import ExponentialAverage

    network = fdl.Config(
        UNet,
        features=features,
        blocks=2,
        dropout=0.05,
        fourier_exponents=(6, 7),
        fourier_damping=True,
    )
    config = _system(source, network)
    config.data.held_out = fdl.build(source).held_out
    config.train.num_steps = num_steps
    config.train.batch_size = 32
    config.train.checkpoint_every = 250
    config.train.log_every = 25
    config.train.optimizer = settling(peak=1e-2)
    config.train.average = fdl.Config(ExponentialAverage, decay=0.999, warmup=True)
    config.evaluate.num_images = 500
    return config


def with_gaussian_base(config: fdl.Config) -> fdl.Config:
    """With a network that begins at what a Gaussian knows of natural images, and answers the rest.

    Measured on photos_16 (400 steps, 96 test images): 2.661 bits per dimension by the ODE instead
    of 2.897, with 53 evaluations instead of 58; a full covariance is no better (2.696).
    """
    from diffusion_ode.diffusion.gaussian_base import GaussianBase

    config.model.base = fdl.Config(GaussianBase)
    config.model.network.adds_input = False
    return config


def settling(peak: float) -> fdl.Config:
    """Muon whose learning rate falls from `peak` to zero within the run."""
    from diffusion_ode.training.muon import Muon
    from diffusion_ode.training.optimizer import WarmedUpThenCosine

    return fdl.Config(Muon, learning_rate=fdl.Config(WarmedUpThenCosine, peak=peak))


def gently() -> fdl.Config:
    """For going on with a run of `small`, so that what was learnt is not shaken up again."""
    return settling(peak=2.5e-3)  # a quarter of its own


def solved_carefully(config: fdl.Config) -> fdl.Config:
    """With a fifteenth of the default tolerance of z, for the rough field of undamped features.

    Measured on digits (benchmarks/likelihood.py), by Adams of order 3: at 4e-3 of σ single images
    err by 0.02 bits per dimension, at this by 0.006.
    """
    from diffusion_ode.inference.likelihood import OdeLikelihood, likelihood_controller

    careful = dataclasses.replace(likelihood_controller(), unit_tolerance=1e-3)
    config.evaluate.ode = fdl.Config(OdeLikelihood, controller=explicit(careful))
    return config


def straight(config: fdl.Config) -> fdl.Config:
    """The same on straight paths instead of variance-preserving ones."""
    from diffusion_ode.diffusion.straight_path import StraightPath

    config.model.path = fdl.Config(StraightPath)
    return config


def variants(
    root: str,
    *,
    num_steps: int,
    accumulation: int = 1,
    every: int = 1,
    optimizer: Callable[[], fdl.Config] | None = None,
    published: float | None = None,
    control: bool = False,
) -> None:
    """Registers `…_sp`, the experiment `…_vp` on straight paths, and `…_finetune` of both.

    Args:
      root: the name of the experiment on variance-preserving paths.
      num_steps, accumulation, every, optimizer: of the fine-tuning, see `finetuned`.
      published: the figure of the fine-tuned root.
      control: also registers `…_continued` of the root, which fine-tuning is to be compared with.
    """
    on_straight_paths = f"{root.removesuffix('_vp')}_sp"
    hypothesis = f"On straight paths the likelihood is that of {root}."
    add(Entry(on_straight_paths, straight, root, hypothesis, source=I_DODE))
    for pretrained, figure in ((root, published), (on_straight_paths, None)):

        def finetune(config: fdl.Config, pretrained: str = pretrained) -> fdl.Config:
            return finetuned(
                config,
                pretrained,
                num_steps=num_steps,
                accumulation=accumulation,
                every=every,
                optimizer=optimizer and optimizer(),
            )

        hypothesis = (
            f"Some more steps with the second-order loss, which bounds the divergence's error,"
            f" improve the ODE's likelihood of {pretrained}."
        )
        name, differs = f"{pretrained}_finetune", _MOMENTS_KEPT if accumulation > 1 else {}
        add(Entry(name, finetune, pretrained, hypothesis, None, THEOREM, figure, differs))
    if control:

        def go_on(config: fdl.Config) -> fdl.Config:
            return continued(config, root, num_steps=num_steps, optimizer=optimizer and optimizer())

        hypothesis = (
            f"As many more steps with the first-order loss improve {root} by as much as fine-tuning"
            " with the second-order loss does."
        )
        add(Entry(f"{root}_continued", go_on, root, hypothesis))


def finetuned(
    config: fdl.Config,
    pretrained: str,
    *,
    num_steps: int,
    accumulation: int = 1,
    every: int = 1,
    optimizer: fdl.Config | None = None,
) -> fdl.Config:
    """Goes on from where the run `pretrained` ended, with the second-order objective.

    Args:
      config, pretrained, num_steps, optimizer: see `continued`.
      accumulation: parts that a batch is divided into, for memory; a step stays one batch.
      every: the second order is taken on every k-th image only.
    """
    from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
    from diffusion_ode.objectives.trace_residual import SingleProbe

    config = continued(config, pretrained, num_steps=num_steps, optimizer=optimizer)
    config.train.accumulation = accumulation
    config.train.objective = fdl.Config(
        SecondOrderFlowMatching,
        times=config.train.objective.times,
        weight=0.1,
        every=every,
        residual=fdl.Config(SingleProbe),  # as published, though it presses on more than the trace
    )
    return config


def continued(
    config: fdl.Config, pretrained: str, *, num_steps: int, optimizer: fdl.Config | None = None
) -> fdl.Config:
    """Goes on from where the run `pretrained` ended, as it was trained.

    Parameters, their average, the optimiser's moments and the count of steps are taken over.

    Args:
      config: of the experiment `pretrained`.
      pretrained: its name.
      num_steps: optimiser steps to take beyond those of `pretrained`.
      optimizer: None keeps that of `pretrained`.
    """
    config.train.warm_start.source = f"runs/{pretrained}"
    config.train.num_steps = num_steps
    if optimizer is not None:
        config.train.optimizer = optimizer
    return config


def _system(source: fdl.Config, network: fdl.Config) -> fdl.Config:
    """Velocity, importance-sampled times, γ from −13.3 to 5; the pixels are the source's."""
    from data.pipeline import Data
    from diffusion_ode.diffusion.model import Model
    from diffusion_ode.diffusion.parameterization import VelocityPrediction
    from diffusion_ode.diffusion.pixels import Pixels
    from diffusion_ode.diffusion.schedule import LinearSchedule
    from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes
    from diffusion_ode.diffusion.variance_preserving import VariancePreserving
    from diffusion_ode.objectives.flow_matching import FlowMatching
    from diffusion_ode.tasks.evaluate import Evaluate
    from diffusion_ode.tasks.experiment import Experiment
    from diffusion_ode.tasks.sample import Sample
    from diffusion_ode.tasks.train import Train
    from diffusion_ode.training.sharding import Mesh

    images = fdl.build(source)
    return fdl.Config(
        Experiment,
        model=fdl.Config(
            Model,
            path=fdl.Config(VariancePreserving),
            schedule=fdl.Config(LinearSchedule, gamma_0=-13.3, gamma_1=5.0),
            parameterization=fdl.Config(VelocityPrediction),
            network=network,
            pixels=fdl.Config(Pixels, shape=images.shape, levels=images.levels),
        ),
        data=fdl.Config(Data, source=source),
        train=fdl.Config(
            Train, objective=fdl.Config(FlowMatching, times=fdl.Config(ImportanceSampledTimes))
        ),
        evaluate=fdl.Config(Evaluate),
        sample=fdl.Config(Sample),
        mesh=fdl.Config(Mesh),
    )
