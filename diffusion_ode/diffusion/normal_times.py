"""Times that are normal in γ."""

import math
import statistics
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.time_sampling import Times, TimeSampler
from diffusion_ode.diffusion.uniforms import LowDiscrepancyUniforms, Uniforms
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Gamma, Positive, Within

_LEAST_WITHIN = 1e-3  # of the normal: of less, float32 resolves no quantiles
_HALVINGS = 60


@dataclass(frozen=True)
class NormalTimes(TimeSampler):
    """Normal: γ ~ N(m, s²) within [γ0, γ1], whatever the schedule between them; some uniform.

    In a normal's tails 1/p has no bound, and what lies there is weighted by numbers that are never
    drawn: a share that is uniform keeps every γ within reach.

    On the straight path t = σ has logit γ/2: times that are logit-normal with (0, 1) are those with
    m = 0, s = 2, the default. EDM's log(σ/α) ~ N(−1.2, 1.2²) is m = −2.4, s = 2.4.

    Args:
      mean, deviation: m and s.
      uniform_share: of the density that is uniform in γ, in (0, 1].

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1; Karras et al. 2022, arXiv:2206.00364,
    section 5.
    """

    mean: Gamma = 0.0
    deviation: Positive = 2.0
    uniform_share: Annotated[float, Within(0, 1, "(]")] = 0.1
    follows_schedule: ClassVar[bool] = False
    uniforms: Uniforms = field(default_factory=LowDiscrepancyUniforms)

    __post_init__ = check_fields

    def check(self, schedule):
        """Refuses a normal of which next to nothing lies within [γ0, γ1]."""
        normal = statistics.NormalDist(self.mean, self.deviation)
        within = normal.cdf(schedule.gamma_1) - normal.cdf(schedule.gamma_0)
        if within < _LEAST_WITHIN:
            raise UserError(
                f"times = NormalTimes(mean={self.mean}, deviation={self.deviation}) leaves only"
                f" {within:.1g} of the normal within the schedule's [{schedule.gamma_0},"
                f" {schedule.gamma_1}]: give a mean between these, and a deviation of their size."
            )

    def sample(self, state, path, schedule, u):
        del state, path
        start, end = (jnp.asarray(g, u.dtype) for g in (schedule.gamma_0, schedule.gamma_1))
        low, high = (ndtr((g - self.mean) / self.deviation) for g in (start, end))
        uniform, normal = self.uniform_share, (1.0 - self.uniform_share) / (high - low)

        def distribution(gamma):
            within = ndtr((gamma - self.mean) / self.deviation) - low
            return uniform * (gamma - start) / (end - start) + normal * within

        def halve(_, ends):
            middle = 0.5 * (ends[0] + ends[1])
            above = distribution(middle) < u
            return jnp.where(above, middle, ends[0]), jnp.where(above, ends[1], middle)

        def density(gamma):
            standard = (gamma - self.mean) / self.deviation
            bell = jnp.exp(-0.5 * jnp.square(standard)) / self.deviation
            return uniform / (end - start) + normal * bell / math.sqrt(2.0 * math.pi)

        ends = jnp.full_like(u, start), jnp.full_like(u, end)
        gamma = jax.lax.stop_gradient(jax.lax.fori_loop(0, _HALVINGS, halve, ends)[0])
        # For the slopes in u and in the ends, which learned ones have.
        gamma += (u - distribution(gamma)) / jax.lax.stop_gradient(density(gamma))
        gamma = jnp.clip(gamma, start, end)
        return Times(gamma, density(gamma))
