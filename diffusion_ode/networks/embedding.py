"""Features made of sines, of time and of the image itself, and what blocks are conditioned on."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.ranges import Positive
from diffusion_ode.typing import Images, PerImage

_TIME_SCALE = 1000.0  # the range the frequencies were made for: a thousand discrete steps
_LONGEST_PERIOD = 10_000.0


def time_embedding(time: PerImage, width: int):
    """Sinusoidal embedding [b, width] of time ∈ [0, 1]: all sines, then all cosines.

    Frequencies exp(−i log(10000)/(width/2 − 1)) of 1000·time.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; Kingma et al. 2021,
    arXiv:2107.00630, appendix B.
    """
    half = width // 2
    exponent = jnp.arange(half, dtype=time.dtype) / max(half - 1, 1)
    frequency = jnp.exp(-math.log(_LONGEST_PERIOD) * exponent)
    angle = _TIME_SCALE * time[:, None] * frequency[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def fourier_features(z: Images, exponents: tuple[int, ...], sigma: PerImage | None = None):
    """The channels [z, sin ωz, cos ωz], ω = 2π·2ⁿ for each n: [b, h, w, c(1 + 2n)], channel-major.

    They let the network see the last bits of a value: exponents 6 and 7 resolve 256 levels.

    With σ they are damped by exp(−½ω²σ²). At z = αx + σε this makes them the best linear estimate
    of sin(ωαx) where its phase is anything, and keeps noise out that looks like a feature. It also
    bounds their slope, |d/dz| ≤ 0.61/σ: undamped ones make the drift as rough at large σ as at
    small, and the probability-flow ODE many times as costly to solve.

    Args:
      z: noised images [b, h, w, c].
      exponents: n.
      sigma: of the noise in z; None: undamped, as published.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix C; the damping is that of positions known
    up to a Gaussian, Barron et al. 2021, arXiv:2103.13415, section 3.1.
    """
    if not exponents:
        return z
    frequency = 2.0 * math.pi * 2.0 ** jnp.asarray(exponents, z.dtype)
    angle = z[..., None] * frequency
    waves = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-3)
    if sigma is not None:
        waves = waves * jnp.exp(
            -0.5 * jnp.square(sigma[:, None, None, None, None, None] * frequency)
        )
    return jnp.concatenate([z, waves.reshape(*z.shape[:-1], -1)], axis=-1)


def condition_of(told: Any, flag: PerImage, width: int, dtype: Any):
    """What a network's blocks are conditioned on, [b, width], by its layers `dense0` and `dense1`.

    Args:
      told: features [b, any] of time or noise.
      flag: [b].
      width, dtype: of both layers.
    """
    h = jnp.concatenate([told, flag[:, None]], axis=-1)
    h = nn.swish(nn.Dense(width, dtype=dtype, name="dense0")(h))
    return nn.swish(nn.Dense(width, dtype=dtype, name="dense1")(h))


@runtime_checkable
class TimeFeatures(Protocol):
    """What a network is told of its time or noise, before any layer."""

    def __call__(self, time: PerImage, sigma: PerImage, width: int) -> Any:
        """Features [b, any] of time ∈ [0, 1] or of σ, for a network so many features wide."""
        ...


@dataclass(frozen=True)
class SinesOfTime:
    """`time_embedding`, as wide as the network."""

    def __call__(self, time, sigma, width):
        del sigma
        return time_embedding(time, width)


@dataclass(frozen=True)
class RandomSinesOfNoise:
    """The sines and cosines of 2πw·log σ at random but fixed w ~ N(0, scale²), width of each.

    The w follow from a constant key: they are no parameters.

    Source: Tancik et al. 2020, arXiv:2006.10739; for VE paths Song et al. 2021, arXiv:2011.13456,
    appendix H.
    """

    scale: Positive = 16.0

    __post_init__ = check_fields

    def __call__(self, time, sigma, width):
        del time
        frequency = self.scale * jax.random.normal(jax.random.key(0), (width,))
        angle = 2.0 * math.pi * jnp.log(sigma)[:, None] * frequency.astype(sigma.dtype)
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
