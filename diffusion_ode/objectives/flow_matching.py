"""First-order flow matching."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.end_terms import GaussianEnds
from diffusion_ode.diffusion.learned_schedule import learns_ends
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes, TimeSampler
from diffusion_ode.diffusion.weighting import LikelihoodWeighting, Weighting
from diffusion_ode.objectives.objective import Draws, Integrand, LossTerms
from diffusion_ode.typing import Levels, PerImage


@dataclass(frozen=True)
class FlowMatching:
    """The diffusion term of the variational bound, ½∫‖ε − ε̂‖² dγ, one γ per image.

    Per image: (w · ½a²/p) ‖output − target‖² with ε̂ = a · output + b · z, p the density that γ was
    drawn from, and w = 1 by default. Then its mean is the bound up to the reconstruction and prior
    terms, which have no gradient while the end points are fixed, and so are left to evaluation;
    where those are learned, both are added.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 3.2 and equation 15; Kingma et al. 2021,
    arXiv:2107.00630, equation 17.
    """

    takes_pixels: ClassVar[bool] = True
    """Whether a schedule may give each pixel its own γ."""
    times: TimeSampler = field(default_factory=ImportanceSampledTimes)
    weighting: Weighting = field(default_factory=LikelihoodWeighting)

    __post_init__ = check_fields

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
        diffusion = model.diffusion_term(error, draws.gamma, draws.density)
        return weighted_terms(self.weighting, model, images, draws, diffusion)


def draw_flow(model: Model, images, key, times_state, times: TimeSampler, probes=()) -> Draws:
    """Draws γ, its density and ε for a batch."""
    time_key, noise_key = jax.random.split(key)
    u = times.uniforms.draw(time_key, images.shape[0])
    sampled = times.sample(times_state, model.path, model.schedule, u)
    noise = jax.random.normal(noise_key, images.shape)
    end_noise = None
    if learns_ends(model.schedule):
        end_noise = jax.random.normal(jax.random.fold_in(noise_key, 1), images.shape)
    return Draws(sampled.gamma, sampled.density, noise, tuple(probes), end_noise)


def diffusion_weight(model: Model, draws: Draws):
    """The weight ½a²/p per image."""
    return model.likelihood_weight(draws.gamma) / draws.density


def weighted_terms(
    weighting: Weighting,
    model: Model,
    images: Levels,
    draws: Draws,
    diffusion: PerImage,
    loss: PerImage | None = None,
    **parts: PerImage,
) -> LossTerms:
    """What came of each image, under a weighting, with the ends' terms where these are learned.

    Args:
      weighting: w.
      model, images, draws: of which it is the term.
      diffusion: the bound's term, (½a²/p) ‖output − target‖².
      loss: what w multiplies; None for the diffusion term alone.
      parts: of the loss, to be watched beside it.
    """
    is_bound = weighting.is_bound and loss is None
    if is_bound and (parts or draws.end_noise is not None):
        parts = {"diffusion": diffusion, **parts}  # else its curve would be the bound's own
    weight = weighting.weight(model.path, model.schedule, draws.gamma)
    total = weight * (diffusion if loss is None else loss)
    if draws.end_noise is not None:
        ends = GaussianEnds()
        parts["reconstruction"] = ends.reconstruction(model, images, draws.end_noise)
        parts["prior"] = ends.prior(model, images)
        total = total + parts["reconstruction"] + parts["prior"]
    return LossTerms(
        loss=total,
        parts=parts,
        integrand=Integrand(draws.gamma, diffusion * draws.density, weight),
        bound=None if is_bound else diffusion,
    )
