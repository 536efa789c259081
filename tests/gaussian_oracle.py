"""Data of which everything is known: a Gaussian, a mixture of two, and the network that is exact.

For x ~ N(μ, C) the noised z = αx + σε is N(αμ, α²C + σ²I), and the posterior means of x and ε are
affine in z. Every target is linear in (x, ε), so the best network is the target at those means.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.diffusion.model import Model, along_images
from diffusion_ode.diffusion.parameterization import (
    DataPrediction,
    NoisePrediction,
    VelocityPrediction,
)
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.sub_variance_preserving import SubVariancePreserving
from diffusion_ode.diffusion.variance_exploding import VarianceExploding
from diffusion_ode.diffusion.variance_preserving import VariancePreserving

PATHS = [VariancePreserving(), StraightPath(), VarianceExploding(), SubVariancePreserving()]
PARAMETERIZATIONS = [VelocityPrediction(), NoisePrediction(), DataPrediction()]


def name_of(piece: Any) -> str:
    return type(piece).__name__


@dataclass(frozen=True)
class RealPixels(Pixels):
    """Data that is real-valued already."""

    def encode(self, levels):
        return jnp.asarray(levels)


class Keeps:
    """A decoder of real-valued data: it leaves z as it is."""

    def __call__(self, model, z, key):
        del key
        return z


@dataclass(frozen=True)
class ExactNetwork:
    """The best network for a mixture of Gaussians, whose parameters are

    `weight` [m], `mean` [m, N], `variance` [m, N] (eigenvalues) and `rotation` [N, N] (common
    eigenvectors, in columns).
    """

    path: Any
    schedule: Any
    parameterization: Any

    def init(self, key, *args):
        raise NotImplementedError("the parameters are those of the data")

    def apply(self, variables, z, time, flag, sigma, *, deterministic=True, rngs=None):
        del flag, sigma, deterministic, rngs
        data, flat = variables["params"], z.reshape(z.shape[0], -1)
        gamma = (
            self.schedule.gamma_0 + (self.schedule.gamma_1 - self.schedule.gamma_0) * time[:, None]
        )
        alpha, sigma = self.path.alpha(gamma), self.path.sigma(gamma)
        rotation = data["rotation"]

        def component(mean, variance):
            spread = alpha**2 * variance + sigma**2
            centred = (flat - alpha * mean) @ rotation
            log_density = -0.5 * jnp.sum(centred**2 / spread + jnp.log(spread), axis=1)
            x = mean + (alpha * variance * centred / spread) @ rotation.T
            noise = (sigma * centred / spread) @ rotation.T
            return log_density, x, noise

        log_density, x, noise = jax.vmap(component)(data["mean"], data["variance"])
        share = jax.nn.softmax(log_density + jnp.log(data["weight"])[:, None], axis=0)[..., None]
        x, noise = jnp.sum(share * x, axis=0), jnp.sum(share * noise, axis=0)
        along = along_images(gamma[:, 0])
        return self.parameterization.target(
            self.path, along, x.reshape(z.shape), noise.reshape(z.shape)
        )


def exact_model(path, parameterization, shape=(2, 2, 1), gamma_0=-6.0, gamma_1=5.0) -> Model:
    schedule = LinearSchedule(gamma_0, gamma_1)
    network = ExactNetwork(path, schedule, parameterization)
    return Model(path, schedule, parameterization, network, RealPixels(shape, 2))


def gaussian(dimensions: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """A mean and a full covariance, as parameters of `ExactNetwork`."""
    draw = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(draw.normal(size=(dimensions, dimensions)))
    return {
        "weight": np.ones(1),
        "mean": draw.normal(size=(1, dimensions)),
        "variance": np.exp(draw.normal(size=(1, dimensions))),
        "rotation": rotation,
    }


def mixture() -> dict[str, np.ndarray]:
    """Two components in one dimension."""
    return {
        "weight": np.array([0.3, 0.7]),
        "mean": np.array([[-0.6], [0.5]]),
        "variance": np.array([[0.02], [0.05]]),
        "rotation": np.eye(1),
    }


def in_float32(data):
    return {name: np.asarray(values, np.float32) for name, values in data.items()}


def draw_data(data, count: int, seed: int = 1) -> np.ndarray:
    """[count, N] from a single Gaussian."""
    noise = np.random.default_rng(seed).normal(size=(count, data["mean"].shape[1]))
    return data["mean"][0] + (noise * np.sqrt(data["variance"][0])) @ data["rotation"].T


def noised_variance(path, data, gamma) -> np.ndarray:
    """Eigenvalues of α²C + σ²I at a γ."""
    alpha, sigma = (np.asarray(part(jnp.asarray(gamma))) for part in (path.alpha, path.sigma))
    return alpha**2 * data["variance"][0] + sigma**2
