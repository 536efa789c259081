"""Which γ a training step looks at."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.path import Path
from diffusion_ode.diffusion.schedule import NoiseSchedule
from diffusion_ode.diffusion.uniforms import LowDiscrepancyUniforms, Uniforms
from diffusion_ode.ranges import Count, Within
from diffusion_ode.typing import PerImage


class Times(NamedTuple):
    """Sampled γ of a batch, and the density p(γ) they were drawn with."""

    gamma: PerImage
    density: PerImage


@runtime_checkable
class TimeSampler(Protocol):
    """Turns uniform numbers into γ of known density, so that ∫ f dγ is estimated by f/p.

    One that draws other times than the schedule's γ(t) says so by `follows_schedule = False`, and
    one whose estimate has another mean than the integral by `estimates_integral = False`.
    A sampler may learn: its state is part of the train state, and `update` is told the γ of a batch
    and the integrand f there, in nats per unit of γ. One that does not learn leaves both out.
    """

    uniforms: Uniforms

    def init(self) -> Any:
        """The state at the start of a training."""
        return ()

    def sample(self, state: Any, path: Path, schedule: NoiseSchedule, u: PerImage) -> Times: ...

    def update(
        self, state: Any, schedule: NoiseSchedule, gamma: PerImage, integrand: PerImage
    ) -> Any:
        """The state after a batch."""
        del schedule, gamma, integrand
        return state


@dataclass(frozen=True)
class UniformTimes(TimeSampler):
    """Uniform in time: γ = γ(t) at t = u, p(γ) = 1/γ′(t). The schedule decides.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 4.1.
    """

    uniforms: Uniforms = field(default_factory=LowDiscrepancyUniforms)

    __post_init__ = check_fields

    def sample(self, state, path, schedule, u):
        del state, path
        return Times(schedule.gamma(u), 1.0 / schedule.derivative(u))


@dataclass(frozen=True)
class ImportanceSampledTimes(TimeSampler):
    """Importance times: p(γ) = α²(γ)/Z with Z = S(γ0) − S(γ1) = ∫ α² dγ.

    Of the schedule only the ends matter.

    With velocity the likelihood's weight is ½c²α², so that the weight over the density is the
    constant ½c²Z (c = 1 for VP, √2 for SP); for VE γ is uniform. γ solves
    S(γ) = S(γ1) + (1 − u) Z; added to the small end, the sum keeps its relative accuracy where γ
    is largest.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 3.3 (they bisect for SP).
    """

    follows_schedule: ClassVar[bool] = False
    uniforms: Uniforms = field(default_factory=LowDiscrepancyUniforms)

    __post_init__ = check_fields

    def sample(self, state, path, schedule, u):
        del state
        least = path.signal_remaining(jnp.asarray(schedule.gamma_1, u.dtype))
        total = path.signal_remaining(jnp.asarray(schedule.gamma_0, u.dtype)) - least
        gamma = path.gamma_of_signal_remaining(least + (1.0 - u) * total)
        return Times(gamma, path.alpha(gamma) ** 2 / total)


@dataclass(frozen=True)
class DiscreteTimes(TimeSampler):
    """The γ of the times 1/T, 2/T, …, 1 by the schedule only: a diffusion in T steps.

    Its bound is ½T E_t[expm1(γ_t − γ_s) ‖ε − ε̂‖²] with s = t − 1/T. In the place of a density p
    stands what makes ½∫‖ε − ε̂‖² dγ ≈ ½‖ε − ε̂‖²/p into it, 1/p = T expm1(γ_t − γ_s). With it
    `VariationalBound` is the T-step bound and `FlowMatching` the loss of T-step training; both tend
    to the integral as T → ∞.

    Args:
      steps: T.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 4.2 and equation 13.
    """

    steps: Count = 1000
    estimates_integral: ClassVar[bool] = False
    uniforms: Uniforms = field(default_factory=LowDiscrepancyUniforms)

    __post_init__ = check_fields

    def sample(self, state, path, schedule, u):
        del state, path
        # u < 1, but u·T may round to T.
        step = jnp.minimum(jnp.floor(u * self.steps), self.steps - 1)
        time = (step + 1.0) / self.steps
        change = schedule.change(time, 1.0 / self.steps)
        return Times(schedule.gamma(time), 1.0 / (self.steps * jnp.expm1(change)))


_LARGEST_INTEGRAND = 1e15  # nats: its square, summed over any batch, is finite in float32


class AdaptiveState(NamedTuple):
    """Running estimates on the grid's bins."""

    second_moment: jnp.ndarray  # [bins], of the integrand
    count: jnp.ndarray  # [bins], draws seen, discounted like the moments


@dataclass(frozen=True)
class AdaptiveTimes(TimeSampler):
    """The density of least variance, p(γ) ∝ √E[f²|γ], estimated on a grid of γ as training goes.

    Of the schedule only the ends matter: the grid is linear in γ, and what is learnt replaces it.

    f is the integrand of the diffusion term, in nats per unit of γ. Each bin keeps a running mean
    of f² with the given decay per *draw*; a share of uniform sampling keeps every γ alive, so that
    f/p stays bounded. An f that is not finite teaches nothing and is left out.

    Args:
      bins: number of equal bins in [γ0, γ1].
      decay: of the running mean, per draw that falls into the bin.
      uniform_share: of the density that stays uniform, in (0, 1].

    Source: the optimal importance density, e.g. Owen, Monte Carlo theory, section 9.1; for
    diffusion losses Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.3.
    """

    bins: Annotated[int, Within(1, 2**16)] = 64
    decay: Annotated[float, Within(0, 1, "()")] = 0.99
    uniform_share: Annotated[float, Within(0, 1, "(]")] = 0.1
    follows_schedule: ClassVar[bool] = False
    uniforms: Uniforms = field(default_factory=LowDiscrepancyUniforms)

    __post_init__ = check_fields

    def init(self):
        return AdaptiveState(jnp.zeros(self.bins), jnp.zeros(self.bins))

    def probabilities(self, state: AdaptiveState):
        """The probability of each bin; uniform until something has been seen."""
        seen = state.count > 0
        root = jnp.sqrt(state.second_moment)
        number = jnp.maximum(jnp.sum(seen.astype(root.dtype)), 1.0)
        mean = jnp.sum(jnp.where(seen, root, 0.0)) / number
        root = jnp.where(seen, root, mean) + jnp.finfo(root.dtype).tiny
        adapted = jnp.where(mean > 0.0, root / jnp.sum(root), 1.0 / self.bins)
        return (1.0 - self.uniform_share) * adapted + self.uniform_share / self.bins

    def sample(self, state, path, schedule, u):
        del path
        probabilities = self.probabilities(state)
        upper = jnp.cumsum(probabilities)
        # The last bin takes what rounding leaves over.
        chosen = jnp.minimum(jnp.searchsorted(upper, u, side="right"), self.bins - 1)
        share = probabilities[chosen]
        within = jnp.clip((u - (upper[chosen] - share)) / share, 0.0, 1.0)
        width = (schedule.gamma_1 - schedule.gamma_0) / self.bins
        position = chosen.astype(u.dtype) + within
        return Times(schedule.gamma_0 + position * width, share / width)

    def update(self, state, schedule, gamma, integrand):
        position = (gamma - schedule.gamma_0) / (schedule.gamma_1 - schedule.gamma_0)
        chosen = jnp.clip(jnp.floor(position * self.bins).astype(jnp.int32), 0, self.bins - 1)
        usable = jnp.isfinite(integrand) & jnp.isfinite(gamma)
        square = jnp.square(jnp.clip(integrand, -_LARGEST_INTEGRAND, _LARGEST_INTEGRAND))
        drawn = jnp.zeros(self.bins).at[chosen].add(usable.astype(square.dtype))
        total = jnp.zeros(self.bins).at[chosen].add(jnp.where(usable, square, 0.0))
        kept = self.decay**drawn
        count = state.count * kept + (1.0 - kept)
        mean = total / jnp.maximum(drawn, 1.0)
        moment = state.second_moment * state.count * kept + mean * (1.0 - kept)
        return AdaptiveState(moment / jnp.where(count > 0.0, count, 1.0), count)
