"""The handwritten digits that come with scikit-learn: real 8×8 scans, minutes on a laptop."""

import fiddle as fdl

from experiments.registry import experiment
from experiments.systems import solved_carefully, variants

# γ0 = −2 log(3.0187 · V) for V = 17 levels: then noise cut at the bins' borders loses as little of
# the normal as it does for V = 256 at the published γ0 = −13.3.
GAMMA_0 = -7.876
# sin, cos(2π·2ⁿ·z) for n = 2, 3 resolve the last bits of 17 levels as n = 6, 7 do those of 256.
FOURIER_EXPONENTS = (2, 3)


@experiment(data="digits")
def digits_vp() -> fdl.Config:
    """A variance-preserving diffusion ODE, trained for minutes, codes the digits far better than
    independent pixels do (2.364 bpd), and better than trees on the preceding ones (1.954 bpd).
    """
    from data.pipeline import Data
    from data.sources.digits import Digits
    from diffusion_ode.diffusion.model import Model
    from diffusion_ode.diffusion.parameterization import VelocityPrediction
    from diffusion_ode.diffusion.pixels import Pixels
    from diffusion_ode.diffusion.schedule import LinearSchedule
    from diffusion_ode.diffusion.variance_preserving import VariancePreserving
    from diffusion_ode.networks.unet import UNet
    from diffusion_ode.objectives.flow_matching import FlowMatching
    from diffusion_ode.tasks.evaluate import Evaluate
    from diffusion_ode.tasks.experiment import Experiment
    from diffusion_ode.tasks.sample import Sample
    from diffusion_ode.tasks.train import Train
    from diffusion_ode.training.muon import Muon
    from diffusion_ode.training.optimizer import WarmedUpThenCosine
    from diffusion_ode.training.sharding import Mesh
    from diffusion_ode.training.step import ExponentialAverage

    return fdl.Config(
        Experiment,
        model=fdl.Config(
            Model,
            path=fdl.Config(VariancePreserving),
            schedule=fdl.Config(LinearSchedule, gamma_0=GAMMA_0),
            parameterization=fdl.Config(VelocityPrediction),
            network=fdl.Config(
                UNet,
                features=64,
                blocks=2,
                dropout=0.0,
                fourier_exponents=FOURIER_EXPONENTS,
                fourier_damping=True,
            ),
            pixels=fdl.Config(Pixels, shape=(8, 8, 1), levels=17),
        ),
        data=fdl.Config(Data, source=fdl.Config(Digits), held_out=Digits.held_out),
        train=fdl.Config(
            Train,
            num_steps=1300,
            batch_size=32,
            objective=fdl.Config(FlowMatching),
            optimizer=fdl.Config(
                Muon,
                learning_rate=fdl.Config(WarmedUpThenCosine, peak=1e-2, warmup_steps=150),
            ),
            average=fdl.Config(ExponentialAverage, decay=0.998, warmup=True),
            log_every=50,
            checkpoint_every=250,
            pictures_every=500,
        ),
        # Five minutes in all: the parts of the standard error from fewer images than usual.
        evaluate=fdl.Config(Evaluate, error_images=16),
        sample=fdl.Config(Sample),
        mesh=fdl.Config(Mesh),
    )


# On every image the second order comes to the same, and a step takes 1.4 times as long.
variants("digits_vp", num_steps=500, every=2, control=True)


@experiment(parent="digits_vp")
def digits_vp_long(config: fdl.Config) -> fdl.Config:
    """Half an hour and some dropout take digits_vp further, though it comes to know its training
    images better than others.
    """
    config.model.network.dropout = 0.2
    config.train.num_steps = 6000
    config.train.average.decay = 0.999
    config.train.checkpoint_every = 1000
    config.train.pictures_every = 2000
    return config


@experiment(parent="digits_vp", source="Kingma et al. 2021, arXiv:2107.00630, appendix C")
def digits_vp_undamped(config: fdl.Config) -> fdl.Config:
    """Fourier features as published, which do not fade in noise, cost bits per dimension and leave
    a rougher flow, whose ODE takes more network evaluations.
    """
    config.model.network.fourier_damping = False
    return solved_carefully(config)


@experiment(parent="digits_vp")
def digits_multi_scale_vp(config: fdl.Config) -> fdl.Config:
    """Half-sized images and attention between them code the digits as well as the U-Net that keeps
    every image's size, at fewer operations a step.
    """
    from diffusion_ode.networks.multi_scale_unet import MultiScaleUNet

    config.model.network = fdl.Config(
        MultiScaleUNet,
        features=64,
        multipliers=(1, 1),
        blocks=1,
        attention_at=(4,),
        head_width=32,
        fourier_exponents=FOURIER_EXPONENTS,
        fourier_damping=True,
    )
    return config


@experiment(parent="digits_vp")
def digits_dit_vp(config: fdl.Config) -> fdl.Config:
    """A transformer on patches of 2×2, which knows nothing of neighbourhoods beforehand, needs more
    steps than the U-Net for the same likelihood.
    """
    from diffusion_ode.networks.dit import DiT

    config.model.network = fdl.Config(
        DiT,
        width=96,
        blocks=4,
        heads=4,
        fourier_exponents=FOURIER_EXPONENTS,
        fourier_damping=True,
    )
    config.train.optimizer = _adamw(peak=1e-3)
    return config


def _adamw(peak: float) -> fdl.Config:
    from diffusion_ode.training.optimizer import AdamW, WarmedUpThenCosine

    rate = fdl.Config(WarmedUpThenCosine, peak=peak, warmup_steps=150)
    return fdl.Config(AdamW, learning_rate=rate)
