"""First-order flow matching."""

from dataclasses import dataclass, field

import jax

from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes, TimeSampler
from diffusion_ode.diffusion.weighting import LikelihoodWeighting, Weighting
from diffusion_ode.objectives.objective import Draws, Integrand, LossTerms
from diffusion_ode.typing import PerImage


@dataclass(frozen=True)
class FlowMatching:
    """The diffusion term of the variational bound, ½∫‖ε − ε̂‖² dγ, one γ per image.

    Per image: (w · ½a²/p) ‖output − target‖² with ε̂ = a · output + b · z, p the density that γ was
    drawn from, and w = 1 by default. Then its mean is the bound up to the reconstruction and prior
    terms, which have no gradient while the end points are fixed, and so are left to evaluation.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 3.2 and equation 15; Kingma et al. 2021,
    arXiv:2107.00630, equation 17.
    """

    times: TimeSampler = field(default_factory=ImportanceSampledTimes)
    weighting: Weighting = field(default_factory=LikelihoodWeighting)

    def directions(self, model):
        del model
        return 0.0

    def draw(self, model, images, key, times_state):
        return draw_flow(model, images, key, times_state, self.times)

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        x = model.pixels.encode(images)
        z = model.noised(x, draws.gamma, draws.noise)
        output = model.predict(parameters, z, draws.gamma, flag, dropout_key)
        error = output - model.target(x, draws.gamma, draws.noise)
        diffusion = diffusion_weight(model, draws) * squared_norm(error)
        return weighted_terms(self.weighting, model, draws, diffusion)


def draw_flow(model: Model, images, key, times_state, times: TimeSampler, probes=()) -> Draws:
    """Draws γ, its density and ε for a batch."""
    time_key, noise_key = jax.random.split(key)
    u = times.uniforms.draw(time_key, images.shape[0])
    sampled = times.sample(times_state, model.path, model.schedule, u)
    noise = jax.random.normal(noise_key, images.shape)
    return Draws(sampled.gamma, sampled.density, noise, tuple(probes))


def diffusion_weight(model: Model, draws: Draws):
    """The weight ½a²/p per image."""
    return model.likelihood_weight(draws.gamma) / draws.density


def weighted_terms(
    weighting: Weighting, model: Model, draws: Draws, diffusion: PerImage, loss=None, **parts
) -> LossTerms:
    """What came of each image, under a weighting.

    Args:
      weighting: w.
      model, draws: whose γ and density they are.
      diffusion: the bound's term, (½a²/p) ‖output − target‖².
      loss: what w multiplies; None for the diffusion term alone.
      parts: of the loss, to be watched beside it.
    """
    weight = weighting.weight(model.path, model.schedule, draws.gamma)
    return LossTerms(
        loss=weight * (diffusion if loss is None else loss),
        parts={"diffusion": diffusion, **parts},
        integrand=Integrand(draws.gamma, diffusion * draws.density, weight),
        bound=None if weighting.is_bound else diffusion,
    )
