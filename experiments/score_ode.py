"""ScoreODE: score matching to the third order on the variance-exploding path.

The values are those of the released configurations and their `losses.py`. How many steps of
fine-tuning the figures took is not among them.
"""

import math

import fiddle as fdl

from experiments.config.conversion import complete
from experiments.flow_matching import TIMES_OTHERWISE
from experiments.registry import Departure, Entry, add, experiment
from experiments.systems import SOLVED_OTHERWISE, continued, published

SCORE_ODE = "Lu et al. 2022, arXiv:2206.08265"
_ENDS = [round(2.0 * math.log(sigma), 4) for sigma in (0.02, 100.0)]  # 0.01, 50 for data in [0, 1]
_DEPARTURES = {**SOLVED_OTHERWISE, **TIMES_OTHERWISE}
_REPEATED = {
    "evaluate.num_importance": Departure(
        5, "the images' own spread is far above a draw's, and the other four would cost as much"
    ),
}
_NOT_STATED = {"train.num_steps": Departure("not stated", "as much as a thirteenth of the run")}


def score_ode(config: fdl.Config) -> fdl.Config:
    """The same network on the variance-exploding path, under the plain error of the noise."""
    from diffusion_ode.diffusion.input_scaling import UnitVariance
    from diffusion_ode.diffusion.integration_variable import LogSnrVariable
    from diffusion_ode.diffusion.parameterization import NoisePrediction
    from diffusion_ode.diffusion.schedule import LinearSchedule
    from diffusion_ode.diffusion.time_sampling import UniformTimes
    from diffusion_ode.diffusion.variance_exploding import VarianceExploding
    from diffusion_ode.diffusion.weighting import UnweightedError
    from diffusion_ode.objectives.flow_matching import FlowMatching

    config.model.path = fdl.Config(VarianceExploding)
    config.model.schedule = fdl.Config(LinearSchedule, *_ENDS)
    config.model.parameterization = fdl.Config(NoisePrediction)
    config.model.input_scaling = fdl.Config(UnitVariance)
    config.train.objective = fdl.Config(
        FlowMatching, times=fdl.Config(UniformTimes), weighting=fdl.Config(UnweightedError)
    )
    config.train.optimizer.clip_norm = 1.0
    # Even steps of σ, the path's natural time, would leave the picture to the last of them.
    config.train.picture_sampler.variable = fdl.Config(LogSnrVariable)
    config.sample.sampler.variable = fdl.Config(LogSnrVariable)
    return config


def high_order(
    config: fdl.Config, order: int, pretrained: str, num_steps: int, batch_size: int
) -> fdl.Config:
    """Goes on from where `pretrained` ended, with the errors up to the order, in equal parts."""
    from diffusion_ode.objectives.high_order import HighOrderDirectional
    from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching

    first = config.train.objective
    config.train.objective = fdl.Config(
        SecondOrderFlowMatching,
        times=first.times,
        weighting=first.weighting,
        weight=1.0,
        residual=fdl.Config(HighOrderDirectional, third_order=float(order == 3)),
    )
    config.train.batch_size = batch_size
    return continued(config, pretrained, num_steps=num_steps)


def high_orders(stem: str, num_steps: int, batch_sizes: tuple[int, int], differs=None) -> None:
    """Registers `…_2` and `…_3`, which fine-tune `…_1` with the higher orders."""
    for order, name, batch_size in zip((2, 3), ("second", "third"), batch_sizes, strict=True):

        def finetuned(config: fdl.Config, order: int = order, batch_size: int = batch_size):
            return high_order(config, order, f"{stem}_1", num_steps, batch_size)

        hypothesis = (
            f"Matching the score's derivatives up to the {name} order too bounds the error of the"
            f" ODE's likelihood, and improves that of {stem}_1."
        )
        add(
            Entry(
                f"{stem}_{order}",
                finetuned,
                f"{stem}_1",
                hypothesis,
                source=SCORE_ODE,
                differs=differs or {},
            )
        )


def _published(source: fdl.Config, dropout: float) -> fdl.Config:
    from diffusion_ode.diffusion.dequantization import UniformDequantization
    from diffusion_ode.diffusion.input_scaling import AsItIs
    from diffusion_ode.networks.embedding import RandomSinesOfNoise
    from diffusion_ode.networks.multi_scale_block import ScoreSde
    from diffusion_ode.networks.multi_scale_unet import MultiScaleUNet
    from diffusion_ode.networks.resampling import BinomialFilter
    from diffusion_ode.training.optimizer import AdamW, WarmedUp

    config = published(source, features=128, num_steps=1_300_000)
    config.model.network = fdl.Config(
        MultiScaleUNet,  # NCSN++
        features=128,
        multipliers=(1, 2, 2, 2),
        blocks=4,
        attention_at=(16,),
        head_width=None,
        dropout=dropout,
        family=fdl.Config(ScoreSde),
        resampling=fdl.Config(BinomialFilter),
        time_features=fdl.Config(RandomSinesOfNoise),
        input_pyramid=True,
    )
    rate = fdl.Config(WarmedUp, peak=2e-4, warmup_steps=5000, start=0.0)
    config.train.optimizer = fdl.Config(AdamW, learning_rate=rate, b2=0.999, weight_decay=0.0)
    config.train.average.decay = 0.999
    config.evaluate.ode.dequantization = fdl.Config(UniformDequantization)
    config = score_ode(complete(config))
    config.model.input_scaling = fdl.Config(AsItIs)
    return config


@experiment(data="cifar10", source=SCORE_ODE, differs=_DEPARTURES | _REPEATED)
def cifar10_score_ode_1() -> fdl.Config:
    """First-order score matching alone leaves the ODE's likelihood behind what the same network
    reaches with the second and third order.
    """
    from data.augmentation import Flip
    from data.sources.cifar10 import Cifar10

    config = _published(fdl.Config(Cifar10), dropout=0.1)
    config.data.augmentation = fdl.Config(Flip)
    return config


@experiment(data="imagenet32_old", source=SCORE_ODE, differs=_DEPARTURES)
def imagenet32_old_score_ode_1() -> fdl.Config:
    """What the higher orders do for cifar10_score_ode_1 they do for a million images."""
    from data.sources.imagenet32 import ImageNet32Old

    return _published(fdl.Config(ImageNet32Old), dropout=0.0)


for _stem in ("cifar10_score_ode", "imagenet32_old_score_ode"):
    high_orders(_stem, num_steps=100_000, batch_sizes=(128, 48), differs=_NOT_STATED)


@experiment(parent="digits_vp", source=SCORE_ODE)
def digits_score_ode_1(config: fdl.Config) -> fdl.Config:
    """On the variance-exploding path, under the plain error of the noise, the digits' likelihood is
    that of digits_vp.
    """
    return score_ode(config)


high_orders("digits_score_ode", num_steps=500, batch_sizes=(32, 32))
