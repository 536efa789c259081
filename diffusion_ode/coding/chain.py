"""The Markov chain that a code goes along: from an image to noise, and the model's way back."""

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.coding.losses import gammas, loss_at
from diffusion_ode.coding.stack import GridGaussian
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.prior import GaussianPrior, StandardPrior
from diffusion_ode.errors import UserError
from diffusion_ode.typing import Parameters


@dataclass(frozen=True)
class Level:
    """One level of the chain, z = αx + σε at γ.

    Attributes:
      gamma, alpha, sigma: of it.
      loss: ℓ, the mean square of an element of ε − ε̂ there, or 0 for the variances of ancestral
        sampling.
      grid: the distance between two values of z there; both directions code on the same grid.
    """

    gamma: float
    alpha: float
    sigma: float
    loss: float
    grid: float


@dataclass(frozen=True)
class LatentChain:
    """q(z_0|x) Π q(z_t|z_s) one way, p(z_T) Π p(z_s|z_t) p(x|z_0) the other.

    q(z_t|z_s) = N((α_t/α_s) z_s, σ_t² c), c = −expm1(γ_s − γ_t); p(z_s|z_t) has the mean
    (α_s/α_t)(z_t − c σ_t ε̂) and the variance c σ_s² (1 + r), r = expm1(γ_t − γ_s) ℓ. With ℓ = 0
    these are the variances of ancestral sampling, those of q(z_s|z_t, x), and a step costs ½Nr;
    what is added is the variance that the error of ε̂ gives the mean, and the step costs
    ½N log(1 + r), the least that a Gaussian of one variance can. It holds for any path and
    parameterisation.

    Attributes:
      model: whose noise prediction ε̂ is.
      levels: from the data's end to the noise's, T + 1 of them.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix A; Bao et al. 2022, arXiv:2201.06503, for
    the variance.
    """

    model: Model
    levels: tuple[Level, ...]

    @classmethod
    def over(cls, model: Model, steps: int, losses: bytes, fineness: float) -> "LatentChain":
        """The chain of T steps, on grids of a fraction of the narrower of both directions."""
        check_model(model)
        gamma = gammas(model, steps, losses)
        with np.errstate(over="ignore"):
            alpha, sigma = (
                np.exp(np.asarray(log(jnp.asarray(gamma, jnp.float32)), np.float64))
                for log in (model.path.log_alpha, model.path.log_sigma)
            )
        loss = loss_at(model, gamma, losses)
        root = np.sqrt(-np.expm1(-np.diff(gamma)))  # √c of each step
        wider = np.sqrt(1.0 + np.expm1(np.diff(gamma)) * loss[1:])
        forward = sigma * np.append(1.0, root)
        backward = sigma * np.append(root * wider, 1.0)
        grids = fineness * np.minimum(forward, backward)
        return cls(model, tuple(map(Level, gamma, alpha, sigma, loss, grids)))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.levels) - 1

    def encoded(self, levels: np.ndarray) -> GridGaussian:
        """q(z_0|x) of pixels [n] at these levels."""
        first = self.levels[0]
        x = (2.0 * levels + 1.0) / self.model.pixels.levels - 1.0
        return GridGaussian(first.alpha * x, first.sigma, first.grid)

    def forward(self, step: int, z: np.ndarray) -> GridGaussian:
        """q(z_t|z_s) of the step from level `step` to the next."""
        s, t = self.levels[step], self.levels[step + 1]
        return GridGaussian(t.alpha / s.alpha * z, t.sigma * np.sqrt(_share(s, t)), t.grid)

    def backward(self, step: int, z: np.ndarray, noise: np.ndarray) -> GridGaussian:
        """p(z_s|z_t) of the same step, from z_t and the network's ε̂ there."""
        s, t = self.levels[step], self.levels[step + 1]
        share = _share(s, t)
        mean = s.alpha / t.alpha * (z - share * t.sigma * noise)
        wider = 1.0 + np.expm1(t.gamma - s.gamma) * t.loss
        return GridGaussian(mean, s.sigma * np.sqrt(share * wider), s.grid)

    def last(self, size: int) -> "LastLevel":
        """p(z_T) of images side by side."""
        return LastLevel(*self._moments, self.levels[-1].grid, size)

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the factor of `LastLevel`."""
        prior, pixels = self.model.prior, self.model.pixels
        if isinstance(prior, StandardPrior):
            return np.zeros((1, pixels.dimensions)), np.full((1, 1), self.levels[-1].sigma)
        if not isinstance(prior, GaussianPrior):
            raise UserError(
                f"model.prior = {type(prior).__name__} has no conditional densities that could be"
                " coded by: compress with StandardPrior or FittedPrior."
            )
        mean, covariance = prior.moments(self.model.path, self.model.schedule.gamma_1)
        return mean[:, None], np.linalg.cholesky(covariance)

    def decoded(self, z: np.ndarray) -> np.ndarray:
        """p(x|z_0): probabilities of the levels, [n, V]."""
        first, pixels = self.levels[0], self.model.pixels
        centres = (2.0 * np.arange(pixels.levels) + 1.0) / pixels.levels - 1.0
        away = (z[:, None] / first.alpha - centres) * (first.alpha / first.sigma)
        logits = -0.5 * np.square(away)
        unnormalised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return unnormalised / unnormalised.sum(axis=1, keepdims=True)

    def noise(self, parameters: Parameters, step: int, z: np.ndarray) -> np.ndarray:
        """ε̂ at the noisier level of a step: float64 [b, N] of z [b, N]; each b is compiled."""
        images = jnp.asarray(z.reshape(-1, *self.model.pixels.shape), jnp.float32)
        gamma = jnp.full(len(z), self.levels[step + 1].gamma, jnp.float32)
        noise = np.asarray(_noise(self.model, parameters, images, gamma), np.float64)
        if not np.isfinite(noise).all():
            raise UserError(
                "The network's output is not finite, so nothing can be coded by it: the parameters"
                " have diverged, or the file is altered; give another checkpoint or file."
            )
        return noise.reshape(z.shape)

    def fingerprint(self, parameters: Parameters, images: int) -> int:
        """A checksum of the numbers that are computed here: they must be the same to decode.

        Args:
          parameters: of the network.
          images: side by side.
        """
        pixels = self.model.pixels
        count = max(images, 1) * pixels.dimensions
        z = (np.arange(count) * 7919 % 1001) / 500.0 - 1.0  # no two neighbours alike
        middle = self.steps // 2
        noise = self.noise(parameters, middle, z.reshape(-1, pixels.dimensions))
        probabilities = self.decoded(z[: pixels.dimensions])
        ends = np.asarray([astuple(level) for level in self.levels])
        numbers = [ends, noise, probabilities]
        if not isinstance(self.model.prior, StandardPrior):
            numbers += self._moments
        return zlib.crc32(b"".join(each.tobytes() for each in numbers))

    @functools.cached_property
    def first_bits(self) -> float:
        """Bits per dimension that must be on the stack at first: the most that are ever lent.

        Each step pops z_t before it pushes z_s, and what a grid cost in the one comes back in the
        other; that a push takes more than that is a likelihood's own business, and not counted on.
        """
        one = np.zeros(1)
        popped = [self.encoded(one).bits]
        popped += [self.forward(step, one).bits for step in range(self.steps)]
        pushed = [self.backward(step, one, one).bits for step in range(self.steps)]
        return float(np.max(np.cumsum(popped)[1:] - np.cumsum([0.0, *pushed[:-1]])))


@dataclass(frozen=True)
class LastLevel:
    """p(z_T) of images side by side, in blocks of their values: of each given those before it.

    Attributes:
      mean: of one image's values, [blocks, N / blocks].
      factor: the lower triangular L [blocks, blocks]; a block's values are independent, and L Lᵀ is
        the covariance of those at the same place in all blocks.
      grid: of the values.
      size: images side by side.
    """

    mean: np.ndarray
    factor: np.ndarray
    grid: float
    size: int

    def blocks(self, multiples: np.ndarray) -> Iterator[tuple[np.ndarray, GridGaussian]]:
        """Each block of the images' values, image by image, in multiples of the grid [size · N]."""
        parts = multiples.reshape(self.size, *self.mean.shape).swapaxes(0, 1)
        known = iter(parts.reshape(len(parts), -1))
        told: list[np.ndarray] = []
        for gaussian in self._given(told):
            told.append(next(known))
            yield told[-1], gaussian

    def popped(self, pop: Callable[[GridGaussian], np.ndarray]) -> np.ndarray:
        """The same values, each block as it is popped."""
        told: list[np.ndarray] = []
        for gaussian in self._given(told):
            told.append(pop(gaussian))
        parts = np.stack(told).reshape(len(told), self.size, -1)
        return parts.swapaxes(0, 1).ravel()

    def _given(self, told: list[np.ndarray]) -> Iterator[GridGaussian]:
        """The densities of the blocks, by what is told of each before the next is asked for."""
        means = np.tile(self.mean, (1, self.size))
        white = np.zeros(means.shape)  # L⁻¹ (z − mean) of the blocks that are known
        for block, row in enumerate(self.factor):
            mean, std = means[block] + row[:block] @ white[:block], float(row[block])
            yield GridGaussian(mean, std, self.grid)
            white[block] = (told[block] * self.grid - mean) / std


def check_model(model: Model) -> None:
    """Refuses a model whose levels are not of one γ.

    Raises:
      UserError: its schedule gives each pixel its own.
    """
    if model.schedule.by_pixel:
        raise UserError(
            "A code goes along levels of one γ for all pixels, and the model's schedule gives each"
            " its own: compress with a model of another schedule, such as digits_vdm's."
        )


def log_density(values: np.ndarray, gaussian: GridGaussian) -> float:
    """Of all values together under the Gaussians themselves, in nats: what no grid costs."""
    squares = np.sum(np.square((values - gaussian.mean) / gaussian.std))
    return float(-0.5 * squares - values.size * np.log(gaussian.std * np.sqrt(2.0 * np.pi)))


def _share(s: Level, t: Level) -> float:
    """Of the noise at t, what has come in since s: c = −expm1(γ_s − γ_t)."""
    return float(-np.expm1(s.gamma - t.gamma))


@functools.partial(jax.jit, static_argnums=0)
def _noise(model: Model, parameters: Parameters, z: Any, gamma: Any):
    with jax.default_matmul_precision("highest"):
        output = model.predict(parameters, z, gamma, jnp.zeros_like(gamma))
    return model.noise(output, z, gamma)
