"""Variational Diffusion Models: noise prediction, and a schedule that is learned."""

import fiddle as fdl

from experiments.cifar10 import augmented
from experiments.registry import Departure, experiment
from experiments.systems import published

VDM = "Kingma et al. 2021, arXiv:2107.00630"
_DEPARTURES = {
    "model.schedule": Departure(
        "γ(t) = |l1| t + b1 + |l3|·h(t)/1024, every number by the plain gradient",
        "the paper's normalised form, with end points of their own, the interior by the variance",
    ),
}


def vdm(config: fdl.Config, *, network: bool = False) -> fdl.Config:
    """The same network under VDM's parameterisation, times and learned schedule.

    Args:
      config: whose schedule's ends are where the learned ones begin.
      network: whether the interior is learned, too, by the variance of the loss.
    """
    from diffusion_ode.diffusion.learned_schedule import (
        LearnedMonotoneSchedule,
        LearnedScalarSchedule,
    )
    from diffusion_ode.diffusion.parameterization import NoisePrediction
    from diffusion_ode.diffusion.time_sampling import UniformTimes

    ends = {name: getattr(config.model.schedule, name) for name in ("gamma_0", "gamma_1")}
    schedule = LearnedMonotoneSchedule if network else LearnedScalarSchedule
    config.model.schedule = fdl.Config(schedule, **ends)
    config.model.parameterization = fdl.Config(NoisePrediction)
    config.train.objective.times = fdl.Config(UniformTimes)
    # A picture compiles its sampler anew, for the schedule that is learned by then.
    if config.train.pictures_every is not None:
        config.train.pictures_every *= 10
    return config


def by_pixel(config: fdl.Config) -> fdl.Config:
    """The same with a schedule for each pixel, between the same ends."""
    from diffusion_ode.diffusion.polynomial_schedule import PolynomialSchedule

    ends = {name: getattr(config.model.schedule, name) for name in ("gamma_0", "gamma_1")}
    config.model.schedule = fdl.Config(PolynomialSchedule, **ends)
    return config


@experiment(data="cifar10", source=VDM, published=2.65)
def cifar10_vdm() -> fdl.Config:
    """With its end points learned, a diffusion that predicts the noise codes CIFAR-10 in 2.65 bits
    per dimension by its variational bound.
    """
    from data.sources.cifar10 import Cifar10

    return vdm(published(fdl.Config(Cifar10), features=128, num_steps=10_000_000))


@experiment(data="cifar10, augmented", source=VDM, published=2.49, differs=_DEPARTURES)
def cifar10_aug_vdm() -> fdl.Config:
    """Turned and flipped images, attention and a learned interior improve on cifar10_vdm."""
    return vdm(augmented(), network=True)


@experiment(data="imagenet32_old", source=VDM, published=3.72)
def imagenet32_old_vdm() -> fdl.Config:
    """The system of cifar10_vdm, twice as wide, scales to a million images."""
    from data.sources.imagenet32 import ImageNet32Old

    source = fdl.Config(ImageNet32Old)
    return vdm(published(source, features=256, batch_size=512, num_steps=10_000_000))


@experiment(data="imagenet64", source=VDM, published=3.40)
def imagenet64_vdm() -> fdl.Config:
    """At four times the pixels, twice the depth codes a dimension in fewer bits."""
    from data.sources.imagenet64 import ImageNet64

    source = fdl.Config(ImageNet64)
    config = published(source, features=256, batch_size=512, num_steps=10_000_000)
    config.model.network.blocks = 64
    return vdm(config)


@experiment(parent="digits_vp", source=VDM)
def digits_vdm(config: fdl.Config) -> fdl.Config:
    """A learned schedule lowers the variance of the digits' loss below the fixed ones', but not
    as far as importance-sampled times do.
    """
    return vdm(config, network=True)


@experiment(parent="digits_vdm", source="Sahoo et al. 2023, arXiv:2312.13236")
def digits_vdm_by_pixel(config: fdl.Config) -> fdl.Config:
    """A schedule for each pixel, learned by the bound itself, lowers the bound of digits_vdm: what
    is certain about a pixel need not wait for its neighbours.
    """
    return by_pixel(config)
