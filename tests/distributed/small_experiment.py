"""An experiment that trains, evaluates and samples in a blink; the launcher finds it by module."""

import fiddle as fdl

from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.sampling import OdeSampler
from diffusion_ode.solvers.pi_controller import PIController
from experiments import digits
from experiments.registry import experiment
from tests.small_network import SmallNetwork

NUM_STEPS = 24
LANES = 4


@experiment(data="digits")
def small() -> fdl.Config:
    """Enough steps to be killed in the midst of them."""
    config = digits.digits_vp()
    config.model.network = fdl.Config(SmallNetwork)
    config.train.num_steps = NUM_STEPS
    config.train.batch_size = 8
    config.train.log_every = 5
    config.train.checkpoint_every = 4
    config.train.pictures_every = None
    loose = PIController(rtol=1e-3, atol=1e-3, log_density_tolerance=1e-3)
    config.evaluate.num_images = 11
    config.evaluate.error_images = 3
    config.evaluate.ode = OdeLikelihood(controller=loose, lanes=LANES)
    config.sample.num_images = 5
    config.sample.sampler = OdeSampler(controller=loose, lanes=LANES)
    return config
