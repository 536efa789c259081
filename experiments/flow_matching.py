"""Flow Matching: straight paths, the plain error of the velocity, times uniform along them."""

import fiddle as fdl

from experiments.registry import Departure, experiment
from experiments.systems import SOLVED_OTHERWISE, published

FLOW_MATCHING = "Lipman et al. 2023, arXiv:2210.02747"
# ScoreODE draws its own so, too.
TIMES_OTHERWISE = {
    "train.objective.times": Departure(
        "uniform, each drawn by itself",
        "spread evenly over a batch, as VDM's: the gradient has the same mean and less noise",
    ),
}
_DEPARTURES = {
    **SOLVED_OTHERWISE,
    **TIMES_OTHERWISE,
    "model.schedule": Departure("σ from σ_min to 1", "γ is finite at both ends: σ_min, 1 − σ_min"),
}


def flow_matching(config: fdl.Config) -> fdl.Config:
    """The same network under flow matching's path, times and loss."""
    from diffusion_ode.diffusion.parameterization import VelocityPrediction
    from diffusion_ode.diffusion.straight_path import StraightPath
    from diffusion_ode.diffusion.straight_schedule import StraightSchedule
    from diffusion_ode.diffusion.time_sampling import UniformTimes
    from diffusion_ode.diffusion.weighting import UnweightedError
    from diffusion_ode.objectives.flow_matching import FlowMatching

    gamma_0 = config.model.schedule.gamma_0
    config.model.path = fdl.Config(StraightPath)
    config.model.schedule = fdl.Config(StraightSchedule, gamma_0=gamma_0, gamma_1=-gamma_0)
    config.model.parameterization = fdl.Config(VelocityPrediction)
    config.train.objective = fdl.Config(
        FlowMatching,
        times=fdl.Config(UniformTimes),
        weighting=fdl.Config(UnweightedError, of=fdl.Config(VelocityPrediction)),
    )
    return config


def _published(
    source: fdl.Config,
    *,
    features: int = 256,
    multipliers: tuple[int, ...] = (1, 2, 2, 2),
    blocks: int,
    attention_at: tuple[int, ...],
    batch_size: int,
    num_steps: int,
    peak: float,
    warmup_steps: int | None,
) -> fdl.Config:
    """A published one; with None to warm up, its learning rate is constant."""
    from diffusion_ode.diffusion.dequantization import UniformDequantization
    from diffusion_ode.networks.multi_scale_unet import MultiScaleUNet
    from diffusion_ode.training.optimizer import AdamW, WarmedUpThenPolynomial

    config = published(source, features=features, batch_size=batch_size, num_steps=num_steps)
    config.model.network = fdl.Config(
        MultiScaleUNet,
        features=features,
        multipliers=multipliers,
        blocks=blocks,
        attention_at=attention_at,
        head_width=64,
    )
    rate = peak
    if warmup_steps is not None:
        rate = fdl.Config(WarmedUpThenPolynomial, peak=peak, warmup_steps=warmup_steps)
    config.train.optimizer = fdl.Config(AdamW, learning_rate=rate, b2=0.999, weight_decay=0.0)
    config.evaluate.ode.dequantization = fdl.Config(UniformDequantization)
    return flow_matching(config)


@experiment(data="cifar10", source=FLOW_MATCHING, published=2.99, differs=_DEPARTURES)
def cifar10_flow_matching() -> fdl.Config:
    """Regressing on straight lines without a weight gives likelihoods near those of losses that are
    made for them, in a fifteenth of the steps of cifar10_vp.
    """
    from data.sources.cifar10 import Cifar10

    return _published(
        fdl.Config(Cifar10),
        blocks=2,
        attention_at=(16,),
        batch_size=256,
        num_steps=391_000,
        peak=5e-4,
        warmup_steps=45_000,
    )


@experiment(data="imagenet32_new", source=FLOW_MATCHING, published=3.53, differs=_DEPARTURES)
def imagenet32_new_flow_matching() -> fdl.Config:
    """What holds for cifar10_flow_matching holds for a million images."""
    from data.sources.imagenet32 import ImageNet32New

    return _published(
        fdl.Config(ImageNet32New),
        blocks=3,
        attention_at=(16, 8),
        batch_size=1024,
        num_steps=250_000,
        peak=1e-4,
        warmup_steps=20_000,
    )


@experiment(data="imagenet64", source=FLOW_MATCHING, published=3.31, differs=_DEPARTURES)
def imagenet64_flow_matching() -> fdl.Config:
    """At four times the pixels a network with one more resolution codes a dimension in fewer bits
    than that of imagenet32_new_flow_matching.
    """
    from data.sources.imagenet64 import ImageNet64

    return _published(
        fdl.Config(ImageNet64),
        features=192,
        multipliers=(1, 2, 3, 4),
        blocks=3,
        attention_at=(32, 16, 8),
        batch_size=2048,
        num_steps=157_000,
        peak=1e-4,
        warmup_steps=None,
    )


@experiment(parent="digits_vp", source=FLOW_MATCHING)
def digits_flow_matching(config: fdl.Config) -> fdl.Config:
    """Straight lines, regressed on without a weight, give the digits a likelihood that the
    likelihood's own weighting improves on.
    """
    return flow_matching(config)
