"""What a learned dequantisation minimises: the dequantised bound under a density that is frozen."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.conditional_flow import placed_by_flow
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.time_sampling import TimeSampler, UniformTimes
from diffusion_ode.objectives.objective import LossTerms
from diffusion_ode.typing import Images, Parameters, PerImage

# In γ, from the data end: nearer to it the difference quotient along the noise is all rounding.
_NEAREST = 1e-3


class DequantizerDraws(NamedTuple):
    """What the bound needs of chance: of the flow, of the times, of the diffusion."""

    places: Images
    gamma: PerImage
    density: PerImage
    noise: Images


@dataclass(frozen=True)
class DequantizedBound:
    """The bound −log P(k) ≤ E_q[log q(u|k) − log p(x + u)], with one of −log p in its turn.

    For the continuous z0, by the reverse diffusion of the frozen network,
    −log p(z0) ≤ E[−log N(z1; 0, σ1² I)] + ½∫ E[‖ε̂‖² − 2(σ/τ) ε̂·η] dγ − N log(α1/α0), where
    z = (α/α0) z0 + τη with τ² = σ² − (α σ0/α0)² is the noised z0. η and −η are taken together, so
    that the product's variance stays finite at the data end. Where each pixel has a γ of its own,
    so have its α, σ and τ, and each term counts dγ_i/dγ times.

    The ODE's own density would have to be differentiated through the whole of its solution; this
    takes two evaluations. Where the network is the exact score the two densities are one and the
    bound is tight. Whatever q has been trained by, an evaluation with it is a code length.

    Args:
      model, parameters: of the frozen density.
      times: of the noise.

    Source: Song et al. 2021 (ScoreFlow), arXiv:2101.09258, theorem 3 and section 5; σ² dγ stands
    for their g² dt.
    """

    model: Model
    parameters: Parameters = field(compare=False)
    times: TimeSampler = field(default_factory=UniformTimes)

    __post_init__ = check_fields

    def draw(self, model, images, key, times_state):
        keys = jax.random.split(key, 3)
        u = self.times.uniforms.draw(keys[0], images.shape[0])
        sampled = self.times.sample(times_state, model.path, model.schedule, u)
        noises = [jax.random.normal(each, images.shape) for each in keys[1:]]
        return DequantizerDraws(noises[0], sampled.gamma, sampled.density, noises[1])

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        del dropout_key
        start = placed_by_flow(model.network, parameters, self.model, images, draws.places)
        density = self.surprise(start.z, flag, draws)
        return LossTerms(density - start.log_weight, {"density": density})

    def surprise(self, z0: Images, flag: PerImage, draws: DequantizerDraws) -> PerImage:
        """An estimate of the bound of −log p(z0), in nats."""
        model, path, ends = self.model, self.model.path, self.model.schedule
        gamma_0, gamma_1 = (jnp.asarray(end, z0.dtype) for end in (ends.gamma_0, ends.gamma_1))
        nearest = gamma_0 + _NEAREST

        def kept_and_added(gamma):
            kept = jnp.exp(path.log_alpha(gamma) - path.log_alpha(gamma_0))
            return kept, path.sigma(gamma) * jnp.sqrt(-jnp.expm1(gamma_0 - gamma))

        gamma = jnp.maximum(draws.gamma, nearest)
        at = jnp.maximum(ends.at_pixels(gamma), nearest)
        kept, added = kept_and_added(at)

        def predicted(sign):
            z = kept * z0 + sign * added * draws.noise
            return model.noise(model.predict(self.parameters, z, gamma, flag), z, gamma)

        plus, minus = predicted(1.0), predicted(-1.0)
        slope = (plus - minus) * draws.noise * path.sigma(at) / added
        square = 0.5 * (jnp.square(plus) + jnp.square(minus))
        integrand = 0.5 * jnp.sum(ends.pixel_rate(gamma) * (square - slope), axis=(1, 2, 3))
        kept, added = kept_and_added(gamma_1)
        prior = -model.prior_log_density(kept * z0 + added * draws.noise)
        return prior + integrand / draws.density - math.prod(z0.shape[1:]) * jnp.log(kept)
