"""The simple loss of Ho et al. 2020, arXiv:2006.11239, equation 14."""

from dataclasses import dataclass, field

import fiddle as fdl
import jax

from diffusion_ode.diffusion.model import squared_norm
from diffusion_ode.diffusion.time_sampling import TimeSampler, UniformTimes
from diffusion_ode.objectives.objective import LossTerms
from experiments.registry import experiment


@dataclass(frozen=True)
class SimpleLoss:
    """The error ‖ε − ε̂‖² at times uniform in t, whatever the network predicts."""

    times: TimeSampler = field(default_factory=UniformTimes)

    def draw(self, model, images, key, times_state):
        u = self.times.uniforms.draw(jax.random.fold_in(key, 0), len(images))
        times = self.times.sample(times_state, model.path, model.schedule, u)
        return times.gamma, jax.random.normal(jax.random.fold_in(key, 1), images.shape)

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        gamma, noise = draws
        z = model.noised(model.pixels.encode(images), gamma, noise)
        output = model.predict(parameters, z, gamma, flag, dropout_key)
        return LossTerms(squared_norm(noise - model.noise(output, z, gamma)), {})


@experiment(parent="digits_vp")
def digits_simple_loss(config: fdl.Config) -> fdl.Config:
    """It draws finer pictures at a worse likelihood."""
    config.train.objective = fdl.Config(SimpleLoss)
    return config
