"""From levels to values and back."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.errors import UserError


@dataclass(frozen=True)
class Pixels:
    """Images of a shape whose values are the integers 0..V−1, encoded as x = (2k + 1)/V − 1.

    The encodings are the centres of V equal bins that fill [−1, 1].

    Args:
      shape: (height, width, channels).
      levels: V; 256 for bytes.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix C.
    """

    shape: tuple[int, int, int] = (32, 32, 3)
    levels: int = 256

    def __post_init__(self):
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise UserError(
                f"shape = {self.shape} is not (height, width, channels): give three positive"
                " numbers."
            )
        if self.levels < 2:
            raise UserError(f"levels = {self.levels} is below 2: give V of the values 0..V−1.")

    @property
    def dimensions(self) -> int:
        """N = height · width · channels."""
        return math.prod(self.shape)

    def check(self, images) -> np.ndarray:
        """The one gate through which images enter: host arrays only, before anything is compiled.

        Args:
          images: [..., h, w, c], of whole numbers 0..V−1 in any numeric type.

        Returns:
          The same levels as integers.

        Raises:
          UserError: for another height, width or number of channels, for values that are not
            whole numbers, and for values outside 0..V−1.
        """
        images = np.asarray(images)
        if images.ndim < 3 or images.shape[-3:] != tuple(self.shape):
            raise UserError(
                f"images of shape {images.shape} do not end in {tuple(self.shape)}, the model's"
                " (height, width, channels): give images of that size, or set model.pixels.shape."
            )
        if images.dtype.kind not in "iu":
            self._refuse_fractions(images)
        if images.size and (images.min() < 0 or images.max() >= self.levels):
            raise UserError(
                f"images hold values from {images.min()} to {images.max()}, but {self.levels}"
                f" levels are 0..{self.levels - 1}: rescale the images, or set model.pixels.levels."
            )
        return images if images.dtype.kind in "iu" else images.astype(np.int32)

    def _refuse_fractions(self, images: np.ndarray) -> None:
        if images.dtype.kind != "f":
            raise UserError(
                f"images are of type {images.dtype}, but levels are whole numbers"
                f" 0..{self.levels - 1}: convert them to uint8."
            )
        strange = images[(images != np.floor(images)) | ~np.isfinite(images)]  # NaN ≠ NaN
        if strange.size:
            raise UserError(
                f"images hold {strange[0]}, but levels are whole numbers 0..{self.levels - 1}: give"
                " the levels themselves, not values scaled to [0, 1] or [−1, 1]."
            )

    def encode(self, levels):
        """Levels 0..V−1 [..., h, w, c] → bin centres in (−1, 1), float32."""
        return (2.0 * jnp.asarray(levels, jnp.float32) + 1.0) / self.levels - 1.0

    def nearest(self, x):
        """Values [..., h, w, c] → the nearest levels, int32: the most probable decoding."""
        level = jnp.floor(0.5 * (x + 1.0) * self.levels)
        return jnp.clip(level, 0, self.levels - 1).astype(jnp.int32)

    def _logits(self, rescaled, gamma_0):
        """Unnormalised log P(level | z0) [..., V]: −½((z0/α0 − v)/s)² with s = σ0/α0 = e^{γ0/2}."""
        centres = self.encode(jnp.arange(self.levels))
        return -0.5 * jnp.square((rescaled[..., None] - centres) * jnp.exp(-0.5 * gamma_0))

    @functools.partial(jax.jit, static_argnums=0)  # or its loop would be compiled at every call
    def log_probability(self, levels, rescaled, gamma_0):
        """The decoder's log P(k | z0) in nats per image.

        It takes z0/α0 = x + e^{γ0/2} ε rather than z0: formed so, it keeps the digits that the
        distances of e^{γ0/2} ≈ 1e-3 between bins need.

        Args:
          levels: integers [b, h, w, c].
          rescaled: z0/α0 [b, h, w, c].
          gamma_0: scalar, γ at the data end.
        """

        def one(image):
            level, noised = image
            logits = jax.nn.log_softmax(self._logits(noised, gamma_0), axis=-1)
            index = level.astype(jnp.int32)[..., None]
            return jnp.sum(jnp.take_along_axis(logits, index, axis=-1))

        # One image at a time: the V logits of every value of a whole batch would not fit.
        return jax.lax.map(one, (levels, rescaled))

    def draw(self, key, rescaled, gamma_0):
        """A draw from P(k | z0), given z0/α0: integers [b, h, w, c]."""
        return jax.random.categorical(key, self._logits(rescaled, gamma_0), axis=-1)
