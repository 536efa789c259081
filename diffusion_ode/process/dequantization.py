"""From a density on the noised image to a code length of its levels."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffusion_ode.process.model import Model
from diffusion_ode.typing import Images, Key, Levels, PerImage


class Start(NamedTuple):
    """Where the ODE starts at γ0, and what its log-density must be complemented with.

    log P(k) ≥ E[log p0(z) + log_weight], and P(k) ≥ E[exp(log p0(z) + log_weight)].
    """

    z: Images
    log_weight: PerImage  # nats


@runtime_checkable
class Dequantization(Protocol):
    """Draws a z at γ0 for the levels k; `draw` is apart, so that a recorded draw can be replayed."""

    def draw(self, model: Model, key: Key) -> Images:
        """The noise for one image, [h, w, c]."""
        ...

    def start(self, model: Model, levels: Levels, noise: Images) -> Start: ...


@dataclass(frozen=True)
class UniformDequantization:
    """z = α0 ((2(k + u))/V − 1), u ~ U[0, 1)^N; log P(k) ≥ log p0(z) + N log α0 + N log(2/V).

    The code of a level spreads over its whole bin, which has the width 2/V in x and 2α0/V in z.

    Source: Theis et al. 2015, arXiv:1511.01844, section 3.1; Zheng et al. 2023, arXiv:2305.03935,
    appendix B.
    """

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
    """z = α0 x + σ0 ε; log P(k) ≥ log p0(z) + log P(k|z) − log q(z|k), q = N(α0 x, σ0² I).

    The diffusion's own encoder and decoder at γ0.

    Source: Kingma et al. 2021, arXiv:2107.00630, section 3.4; Zheng et al. 2023, arXiv:2305.03935,
    section 4.2.
    """

    def draw(self, model, key):
        return jax.random.normal(key, model.pixels.shape)

    def start(self, model, levels, noise):
        gamma_0 = jnp.asarray(model.schedule.gamma_0, noise.dtype)
        z = _encoded(model, levels, noise)
        decoded = model.pixels.log_probability(model.path, gamma_0, levels, z)
        return Start(z, decoded + _gaussian_code(model, noise))


@dataclass(frozen=True)
class TruncatedNormalDequantization:
    """z = α0 x + σ0 ε, ε ~ N(0, I) cut to (−τ, τ), τ = α0/(V σ0) = e^{−γ0/2}/V.

    log P(k) ≥ log p0(z) − log q(z|k), −log q = (N/2) log 2πσ0² + N log Zτ + ½‖ε‖² with
    Zτ = erf(τ/√2). The noise stays within its level's bin, so no decoder is needed and nothing is
    trained.

    Source: Zheng et al. 2023, arXiv:2305.03935, section 4.2 and appendix C.
    """

    def cut(self, model: Model) -> float:
        """τ, in standard deviations."""
        return math.exp(-0.5 * model.schedule.gamma_0) / model.pixels.levels

    def draw(self, model, key):
        cut = self.cut(model)
        return jax.random.truncated_normal(key, -cut, cut, model.pixels.shape)

    def start(self, model, levels, noise):
        log_mass = math.log(math.erf(self.cut(model) / math.sqrt(2.0)))
        code = _gaussian_code(model, noise) + model.pixels.dimensions * log_mass
        return Start(_encoded(model, levels, noise), code)


def _encoded(model: Model, levels: Levels, noise: Images) -> Images:
    """z = α0 x + σ0 ε."""
    gamma = jnp.full(levels.shape[0], model.schedule.gamma_0, noise.dtype)
    return model.noised(model.pixels.encode(levels), gamma, noise)


def _gaussian_code(model: Model, noise: Images) -> PerImage:
    """−log N(z; α0 x, σ0² I) in nats per image."""
    log_sigma = model.path.log_sigma(jnp.asarray(model.schedule.gamma_0, noise.dtype))
    constant = model.pixels.dimensions * (0.5 * math.log(2.0 * math.pi) + log_sigma)
    return constant + 0.5 * jnp.sum(jnp.square(noise), axis=(1, 2, 3))
