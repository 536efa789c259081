"""From a density on the noised image to a code length of its levels."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.model import Model, squared_norm
from diffusion_ode.typing import Images, Key, Levels, PerImage, Scalar


class Start(NamedTuple):
    """Where the ODE starts at γ0, and what its log-density must be complemented with.

    log P(k) ≥ E[log p0(z) + log_weight], and unless the weight is an expectation itself also
    P(k) ≥ E[exp(log p0(z) + log_weight)].
    """

    z: Images
    log_weight: PerImage  # nats


@runtime_checkable
class Dequantization(Protocol):
    """Draws a z for the levels k; `draw` is apart, so that a recorded draw can be replayed."""

    @property
    def closed_form_entropy(self) -> bool:
        """Whether log_weight holds E[−log q] rather than −log q of this draw.

        Then E[log p0(z) + log_weight] still bounds log P(k), but exp(log p0(z) + log_weight) does
        not average to a probability: such draws can be averaged, not importance-weighted.
        """
        ...

    def gamma(self, model: Model) -> float:
        """The γ at which the ODE starts."""
        ...

    def draw(self, model: Model, key: Key) -> Images:
        """The noise for one image, [h, w, c]."""
        ...

    def start(self, model: Model, levels: Levels, noise: Images) -> Start: ...


@runtime_checkable
class HasDigest(Protocol):
    """A dequantisation with parameters of its own, which a config does not tell."""

    def digest(self, model: Model) -> str: ...


@dataclass(frozen=True)
class UniformDequantization:
    """Uniform: z = α0 ((2(k + u))/V − 1), u ~ U[0, 1)^N.

    Hence log P(k) ≥ log p0(z) + N log α0 + N log(2/V).

    The code of a level spreads over its whole bin, which has the width 2/V in x and 2α0/V in z.

    Source: Theis et al. 2015, arXiv:1511.01844, section 3.1; Zheng et al. 2023, arXiv:2305.03935,
    appendix B.
    """

    closed_form_entropy: ClassVar[bool] = False  # −log q is the same for every draw

    def gamma(self, model):
        return model.schedule.gamma_0

    def draw(self, model, key):
        return jax.random.uniform(key, model.pixels.shape)

    def start(self, model, levels, noise):
        pixels = model.pixels
        log_alpha = model.path.log_alpha(jnp.asarray(model.schedule.gamma_0, noise.dtype))
        x = 2.0 * (levels + noise) / pixels.levels - 1.0
        per_dimension = log_alpha + math.log(2.0 / pixels.levels)
        constant = jnp.full(levels.shape[0], pixels.dimensions * per_dimension)
        return Start(jnp.exp(log_alpha) * x, constant)


@dataclass(frozen=True)
class VariationalDequantization:
    """Normal: z = α0 x + σ0 ε; log P(k) ≥ log p0(z) + log P(k|z) − log q(z|k), q = N(α0 x, σ0² I).

    The diffusion's own encoder and decoder at γ0.

    Args:
      closed_form_entropy: take E[−log q] = (N/2)(1 + log 2πσ0²) for −log q of the draw.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.4; Zheng et al. 2023, arXiv:2305.03935,
    section 4.2.
    """

    closed_form_entropy: bool = False

    __post_init__ = check_fields

    def gamma(self, model):
        return model.schedule.gamma_0

    def draw(self, model, key):
        return jax.random.normal(key, model.pixels.shape)

    def start(self, model, levels, noise):
        decoded = model.pixels.log_probability(levels, noise, model.schedule.gamma_0)
        surprise = 0.5 * squared_norm(noise)
        if self.closed_form_entropy:
            surprise = jnp.full_like(surprise, 0.5 * model.pixels.dimensions)
        return Start(
            _encoded(model, levels, noise),
            decoded + _gaussian_constant(model, noise.dtype) + surprise,
        )


@dataclass(frozen=True)
class TruncatedNormalDequantization:
    """Cut: z = α0 x + σ0 ε, ε ~ N(0, I) within (−τ, τ), τ = α0/(V σ0) = e^{−γ0/2}/V.

    log P(k) ≥ log p0(z) − log q(z|k), −log q = (N/2) log 2πσ0² + N log Zτ + ½‖ε‖² with
    Zτ = erf(τ/√2). The noise stays within its level's bin, so no decoder is needed and nothing is
    trained.

    In closed form E[½‖ε‖²] = N(½ − τ pdf(τ)/Zτ) with the standard normal's pdf. Per image the
    sampled form has the smaller variance in total: −log q of a draw cancels against log p0(z).

    Args:
      closed_form_entropy: take E[−log q] for −log q of the draw.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 4.2 and appendix C.
    """

    closed_form_entropy: bool = False

    __post_init__ = check_fields

    def gamma(self, model):
        return model.schedule.gamma_0

    def cut(self, model: Model) -> float:
        """The cut τ, in standard deviations."""
        return math.exp(-0.5 * model.schedule.gamma_0) / model.pixels.levels

    def draw(self, model, key):
        cut = self.cut(model)
        return jax.random.truncated_normal(key, -cut, cut, model.pixels.shape)

    def start(self, model, levels, noise):
        cut, dimensions = self.cut(model), model.pixels.dimensions
        mass = math.erf(cut / math.sqrt(2.0))
        surprise = 0.5 * squared_norm(noise)
        if self.closed_form_entropy:
            density = math.exp(-0.5 * cut**2) / math.sqrt(2.0 * math.pi)
            surprise = jnp.full_like(surprise, dimensions * (0.5 - cut * density / mass))
        constant = _gaussian_constant(model, noise.dtype) + dimensions * math.log(mass)
        return Start(_encoded(model, levels, noise), constant + surprise)


def _encoded(model: Model, levels: Levels, noise: Images) -> Images:
    """The draw z = α0 x + σ0 ε."""
    gamma = jnp.full(levels.shape[0], model.schedule.gamma_0, noise.dtype)
    return model.noised(model.pixels.encode(levels), gamma, noise)


def _gaussian_constant(model: Model, dtype) -> Scalar:
    """The part (N/2) log 2πσ0² of −log N(z; α0 x, σ0² I), in nats; the other is ½‖ε‖²."""
    log_sigma = model.path.log_sigma(jnp.asarray(model.schedule.gamma_0, dtype))
    return model.pixels.dimensions * (0.5 * math.log(2.0 * math.pi) + log_sigma)
