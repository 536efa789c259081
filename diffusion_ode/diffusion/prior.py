"""The distribution of z at the noise end, from which samples start and at which codes end."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion_ode.diffusion.gaussian_base import GaussianBase, Statistics
from diffusion_ode.diffusion.path import Path
from diffusion_ode.typing import Images, PerImage

Gamma1 = float | Float[Array, ""]


@runtime_checkable
class Prior(Protocol):
    """A distribution p(z1) of images, given the path and γ1."""

    def log_density(self, path: Path, gamma_1: Gamma1, z: Images) -> PerImage:
        """The density log p(z1), in nats per image."""
        ...

    def divergence(self, path: Path, gamma_1: Gamma1, x: Images) -> PerImage:
        """The term KL(N(α1 x, σ1² I) ‖ p(z1)) of encoded images x, in nats per image."""
        ...

    def draw(self, path: Path, gamma_1: Gamma1, noise: Images) -> Images:
        """A draw z1, made of standard normal noise of the same shape."""
        ...


@dataclass(frozen=True)
class StandardPrior:
    """The normal N(0, σ1² I): what images become once γ1 is large.

    Source: Kingma et al. 2021, arXiv:2107.00630, equation 12, with σ1² for 1.
    """

    def log_density(self, path, gamma_1, z):
        log_sigma = path.log_sigma(jnp.asarray(gamma_1, z.dtype))
        square = _sum(jnp.square(z)) * jnp.exp(-2.0 * log_sigma)
        constant = jnp.log(2.0 * jnp.pi) + 2.0 * log_sigma
        return -0.5 * (square + math.prod(z.shape[-3:]) * constant)

    def divergence(self, path, gamma_1, x):
        del path
        return 0.5 * _sum(jnp.square(x)) * jnp.exp(-jnp.asarray(gamma_1, x.dtype))

    def draw(self, path, gamma_1, noise):
        return path.sigma(jnp.asarray(gamma_1)) * noise


@dataclass(frozen=True)
class FittedPrior:
    """The normal N(α1 μ, α1² C + σ1² I) that the Gaussian of a model's base becomes.

    It fits at any γ1 as well as images are Gaussian, so that γ1 may be smaller and the way to it
    shorter. It is not used itself: `Model.bound` gives the `GaussianPrior` of some parameters.
    """

    def log_density(self, path, gamma_1, z):
        raise _unbound()

    def divergence(self, path, gamma_1, x):
        raise _unbound()

    def draw(self, path, gamma_1, noise):
        raise _unbound()


def _unbound() -> TypeError:
    return TypeError("a fitted prior is none without parameters: see Model.bound")


class GaussianPrior:
    """N(α1 μ, σ1² U diag(1 + r) Uᵀ) with r = α1² w/σ1² = e^{−γ1} w.

    Args:
      base: whose covariance U is of.
      statistics: μ, U and w.
    """

    def __init__(self, base: GaussianBase, statistics: Statistics):
        self.base, self.statistics = base, statistics

    def log_density(self, path, gamma_1, z):
        gamma = jnp.asarray(gamma_1, z.dtype)
        log_spread, log_sigma = self._log_spread(gamma), path.log_sigma(gamma)
        along = self._coordinates(z - path.alpha(gamma) * self._mean(z)) * jnp.exp(-log_sigma)
        constant = jnp.log(2.0 * jnp.pi) + 2.0 * log_sigma
        return -0.5 * _sum(jnp.square(along) * jnp.exp(-log_spread) + log_spread + constant)

    def divergence(self, path, gamma_1, x):
        del path
        gamma = jnp.asarray(gamma_1, x.dtype)
        log_spread = self._log_spread(gamma)
        along = self._coordinates(x - self._mean(x)) * jnp.exp(-0.5 * gamma)
        inverse = jnp.exp(-log_spread)
        return 0.5 * _sum(jnp.square(along) * inverse + jnp.expm1(-log_spread) + log_spread)

    def draw(self, path, gamma_1, noise):
        gamma = jnp.asarray(gamma_1, noise.dtype)
        wider = jnp.exp(0.5 * self._log_spread(gamma)) * noise
        spread = self.base.covariance.images(jnp.asarray(self.statistics["basis"]), wider)
        return path.alpha(gamma) * self._mean(noise) + path.sigma(gamma) * spread

    def moments(self, path: Path, gamma_1: Gamma1) -> tuple[np.ndarray, np.ndarray]:
        """The mean [N] and the covariance [N, N], float64."""
        shape = self.statistics["mean"].shape
        axes = jnp.eye(math.prod(shape)).reshape(-1, *shape)
        rotation = np.asarray(self._coordinates(axes), np.float64).reshape(len(axes), -1)
        gamma = jnp.asarray(gamma_1, jnp.float32)
        excess = np.expm1(np.asarray(self._log_spread(gamma), np.float64)).ravel()
        alpha, sigma = float(path.alpha(gamma)), float(path.sigma(gamma))
        covariance = sigma**2 * (np.eye(len(axes)) + (rotation * excess) @ rotation.T)
        return alpha * np.asarray(self.statistics["mean"], np.float64).ravel(), covariance

    def _log_spread(self, gamma):
        """The logarithm log(1 + r) along each coordinate."""
        return jnp.log1p(jnp.exp(-gamma) * jnp.asarray(self.statistics["variance"], gamma.dtype))

    def _mean(self, images):
        return jnp.asarray(self.statistics["mean"], images.dtype)

    def _coordinates(self, images):
        basis = jnp.asarray(self.statistics["basis"], images.dtype)
        return self.base.covariance.coordinates(basis, images)


def _sum(images: Images) -> PerImage:
    return jnp.sum(images, axis=(-3, -2, -1))
