"""CIFAR-10: 32×32 colour photographs, 256 levels."""

import fiddle as fdl

from experiments.registry import experiment

I_DODE = "Zheng et al. 2023, arXiv:2305.03935"


@experiment(data="cifar10", source=I_DODE)
def cifar10_vp() -> fdl.Config:
    """Velocity, importance-sampled times and truncated-normal dequantisation bring a
    variance-preserving diffusion ODE to where fine-tuning takes it to the published 2.56 bpd.
    """
    from data.pipeline import Data
    from data.sources.cifar10 import Cifar10
    from diffusion_ode.networks.unet import UNet
    from diffusion_ode.objectives.flow_matching import FlowMatching
    from diffusion_ode.process.model import Model
    from diffusion_ode.process.parameterization import VelocityPrediction
    from diffusion_ode.process.pixels import Pixels
    from diffusion_ode.process.schedule import LinearSchedule
    from diffusion_ode.process.time_sampling import ImportanceSampledTimes
    from diffusion_ode.process.variance_preserving import VariancePreserving
    from diffusion_ode.tasks.evaluate import Evaluate
    from diffusion_ode.tasks.experiment import Experiment
    from diffusion_ode.tasks.sample import Sample
    from diffusion_ode.tasks.train import Train
    from diffusion_ode.training.optimizer import AdamW, WarmedUp
    from diffusion_ode.training.sharding import Mesh
    from diffusion_ode.training.step import ExponentialAverage

    return fdl.Config(
        Experiment,
        model=fdl.Config(
            Model,
            path=fdl.Config(VariancePreserving),
            schedule=fdl.Config(LinearSchedule, gamma_0=-13.3, gamma_1=5.0),
            parameterization=fdl.Config(VelocityPrediction),
            network=fdl.Config(
                UNet,
                features=128,
                blocks=32,
                attention=False,
                dropout=0.1,
                fourier_exponents=(6, 7),
            ),
            pixels=fdl.Config(Pixels, shape=(32, 32, 3), levels=256),
        ),
        data=fdl.Config(Data, source=fdl.Config(Cifar10)),
        train=fdl.Config(
            Train,
            num_steps=6_000_000,
            batch_size=128,
            objective=fdl.Config(FlowMatching, times=fdl.Config(ImportanceSampledTimes)),
            optimizer=fdl.Config(
                AdamW,
                learning_rate=fdl.Config(WarmedUp, peak=2e-4, warmup_steps=100, start=1e-8),
                b1=0.9,
                b2=0.99,
                eps=1e-8,
                weight_decay=0.01,
            ),
            average=fdl.Config(ExponentialAverage, decay=0.9999),
        ),
        evaluate=fdl.Config(Evaluate),
        sample=fdl.Config(Sample),
        mesh=fdl.Config(Mesh),
    )
