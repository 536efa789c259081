"""The pass that finds every image's variational bound."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from diffusion_ode.inference.variational_bound import CHECKED, VariationalBound
from diffusion_ode.randomness import image_keys
from diffusion_ode.typing import Key

_TOGETHER = CHECKED  # images in one call; rounded up to the devices


@dataclass(frozen=True)
class BoundPass:
    """The terms of the variational bound, in nats.

    Args:
      bound: how it is found.
      key: of its noise and times.
      noun: what is counted, for the screen.
    """

    bound: VariationalBound
    key: Key
    noun: str = "bound of image"
    columns: ClassVar[tuple[str, ...]] = ("reconstruction", "prior", "diffusion")

    def rows(self, loaded, images, indices):
        devices = loaded.placement.mesh.size
        size = devices * -(-_TOGETHER // devices)
        for first in range(0, len(indices), size):
            chunk = indices[first : first + size]
            # Padded, so that the last chunk needs no compilation of its own.
            padded = np.asarray([*chunk, *[chunk[-1]] * (size - len(chunk))])
            keys, levels = jax.device_put(
                (image_keys(self.key, padded), images[padded].astype(np.int32)),
                loaded.placement.batch,
            )
            terms = np.asarray(self.bound.terms(loaded.model, loaded.parameters, levels, keys))
            yield from zip(chunk, *terms, strict=False)

    def nats(self, found):
        return sum(found[name] for name in self.columns)
