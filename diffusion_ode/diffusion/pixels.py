"""From levels to values and back."""

import functools
import math
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import LevelCount, Within

_Size = Annotated[int, Within(1, 2**15)]


@dataclass(frozen=True)
class Pixels:
    """Images of a shape whose values are the integers 0..V−1, encoded as x = (2k + 1)/V − 1.

    The encodings are the centres of V equal bins that fill [−1, 1].

    Args:
      shape: (height, width, channels).
      levels: V; 256 for bytes.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix C.
    """

    shape: tuple[_Size, _Size, _Size] = (32, 32, 3)
    levels: LevelCount = 256

    __post_init__ = check_fields

    @property
    def dimensions(self) -> int:
        """The number N = height · width · channels."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integers that hold all levels."""
        return np.min_scalar_type(self.levels - 1)

    def check(self, images) -> np.ndarray:
        """The one gate through which images enter: host arrays only, before anything is compiled.

        Args:
          images: [n, h, w, c] or one [h, w, c], of whole numbers 0..V−1 in any numeric type.

        Returns:
          The same levels as integers.

        Raises:
          UserError: for another height, width or number of channels, for values that are not
            whole numbers, and for values outside 0..V−1.
        """
        images = np.asarray(images)
        if images.ndim > 4:
            raise UserError(
                f"Images of shape {images.shape} have {images.ndim} axes: give images [n, height,"
                f" width, channels] of the model's {tuple(self.shape)}, or one of them."
            )
        if images.ndim < 3 or images.shape[-3:] != tuple(self.shape):
            remedy = "give images of that size, or set model.pixels.shape"
            if images.shape[-3:] == (self.shape[-1], *self.shape[:-1]):
                remedy = "put the channels last, by np.moveaxis(images, -3, -1)"
            elif _looks_channels_first(images.shape) and images.shape[1] != self.shape[-1]:
                there, here = images.shape[1], self.shape[-1]
                remedy = (
                    f"they look channels-first, with {there} channel{'s' * (there > 1)}, and the"
                    f" model takes {here}; give images of {here}, or set model.pixels.shape"
                )
            elif images.ndim < 4 and (*images.shape[-2:], 1) == tuple(self.shape):
                remedy = "give them an axis of channels, by images[..., None]"
            raise UserError(
                f"Images of shape {images.shape} do not end in {tuple(self.shape)}, the model's"
                f" (height, width, channels): {remedy}."
            )
        if images.dtype.kind not in "iu":
            self._refuse_fractions(images)
        if images.size and (images.min() < 0 or images.max() >= self.levels):
            raise UserError(
                f"Images hold values from {images.min()} to {images.max()}, but {self.levels}"
                f" levels are 0..{self.levels - 1}: rescale the images, or set model.pixels.levels."
            )
        return images if images.dtype.kind in "iu" else images.astype(np.int32)

    def _refuse_fractions(self, images: np.ndarray) -> None:
        if images.dtype.kind != "f":
            raise UserError(
                f"Images are of type {images.dtype}, but levels are whole numbers"
                f" 0..{self.levels - 1}: convert them to uint8."
            )
        strange = images[(images != np.floor(images)) | ~np.isfinite(images)]  # NaN ≠ NaN
        if strange.size:
            raise UserError(
                f"Images hold {strange[0]}, but levels are whole numbers 0..{self.levels - 1}: give"
                " the levels themselves, not values scaled to [0, 1] or [−1, 1]."
            )

    def encode(self, levels):
        """Levels 0..V−1 [..., h, w, c] → bin centres in (−1, 1), in the float type of the mode."""
        levels = jnp.asarray(levels).astype(jnp.result_type(float))
        return (2.0 * levels + 1.0) / self.levels - 1.0

    def nearest(self, x):
        """Values [..., h, w, c] → the nearest levels, int32: the most probable decoding."""
        level = jnp.floor(0.5 * (x + 1.0) * self.levels)
        return jnp.clip(level, 0, self.levels - 1).astype(jnp.int32)

    def log_probability(self, levels, deviation, gamma_0: float | Array):
        """The decoder's log P(k | z0) in nats per image.

        P(j | z0) ∝ exp(−½((z0/α0 − x_j)/s)²) with s = σ0/α0 = e^{γ0/2}. In the place of z0 it takes
        how far z0 is from the level's own code, d = (z0/α0 − x_k)/s: exactly the noise ε, where
        z0 = α0 x_k + σ0 ε. With a_j = (x_k − x_j)/s = 2(k − j)/(V s), of an integer difference,
        the exponents are −½(a_j + d)², and

          −log P(k | z0) = log(1 + Σ_{j≠k} exp(−a_j(½a_j + d))):

        nothing is lost to the subtraction of numbers that are close together on the scale of s, and
        a probability near one keeps the digits of its distance from one.

        Args:
          levels: k, integers [b, h, w, c].
          deviation: d [b, h, w, c].
          gamma_0: γ at the data end; an array where it is learned.
        """
        exp = math.exp if isinstance(gamma_0, float | int) else jnp.exp
        return self._log_probability(levels, deviation, 2.0 / self.levels * exp(-0.5 * gamma_0))

    @functools.partial(jax.jit, static_argnums=0)  # or its loop would be compiled every time
    def _log_probability(self, levels, deviation, spacing):
        @jax.checkpoint  # a gradient is that of γ0 alone, and V numbers a value are many to keep
        def one(image):
            level, d = image
            steps = level.astype(jnp.int32)[..., None] - jnp.arange(self.levels, dtype=jnp.int32)
            apart = spacing * steps.astype(d.dtype)
            exponents = jnp.where(steps == 0, -jnp.inf, -apart * (0.5 * apart + d[..., None]))
            return -jnp.sum(jax.nn.softplus(jax.nn.logsumexp(exponents, axis=-1)))

        # One image at a time: the V exponents of every value of a whole batch would not fit.
        return jax.lax.map(one, (levels, deviation))

    def draw(self, key, rescaled, gamma_0):
        """A draw from P(k | z0), given z0/α0: integers [b, h, w, c]."""
        distance = (rescaled[..., None] - self.encode(jnp.arange(self.levels))).astype(
            rescaled.dtype
        )
        logits = -0.5 * jnp.square(distance * jnp.exp(-0.5 * gamma_0))
        return jax.random.categorical(key, logits, axis=-1)


def _looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether [n, c, h, w] is likelier than [n, h, w, c]."""
    most = 4  # channels that images have
    return len(shape) == 4 and 0 < shape[1] <= most < min(shape[2:])
