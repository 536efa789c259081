"""What a Gaussian knows of the images, in closed form: the network answers the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.covariance import Covariance, Shape, StationaryCovariance
from diffusion_ode.diffusion.parameterization import Parameterization
from diffusion_ode.diffusion.path import Path
from diffusion_ode.solvers.divergence import ValueAndTrace
from diffusion_ode.typing import Images, Parameters

BASE = "base"
"""The top-level key of a model's parameters under which the statistics are."""
# Of more every second, third, … is looked at; 16 for each value of 32×32×3: all would take minutes,
# and tell no more.
_ENOUGH_IMAGES = 50_000
_AT_ONCE = 1000  # images in float64: 25 MB of 32×32×3

Statistics = Mapping[str, Array]
"""The `mean` [h, w, c], the `basis` of the covariance, and the `variance` [h, w, c] along it."""


@dataclass(frozen=True)
class GaussianBase:
    """The best affine answer given z, for x ~ N(μ, C) with C = U diag(w) Uᵀ.

    With c = Uᵀ(z − αμ) and d = α²w + σ², the variance of c:
      E[x|z] = μ + U diag(αw/d) c,  E[ε|z] = U diag(σ/d) c,
    and as every target is linear in (x, ε), the target of the two means is what the network would
    answer if the images were Gaussian; it is left to answer what they are besides. The velocity of
    the variance-preserving path is U diag(ασ(1 − w)/d) c − σμ. Karras et al. 2022,
    arXiv:2206.00364, table 1, is U = I, μ = 0, w = σ_data².

    A network that adds z to its answer is better without: `UNet(adds_input=False)`.

    Args:
      covariance: its form.
    """

    covariance: Covariance = field(default_factory=StationaryCovariance)

    __post_init__ = check_fields

    def init(self, shape: Shape) -> Statistics:
        """The statistics of N(0, I), of the shapes that `fit` gives."""
        return {
            "mean": jnp.zeros(shape),
            "basis": jnp.asarray(self.covariance.identity(shape)),
            "variance": jnp.ones(shape),
        }

    def fit(self, images: np.ndarray, levels: int) -> dict[str, np.ndarray]:
        """The statistics of training images, in float64.

        Each variance is that of the images with one more which is a level away from their mean: no
        value is certain because it is the same in all that were seen.

        Args:
          images: levels [n, h, w, c]; of very many, evenly spread ones are looked at.
          levels: V.
        """
        chosen = images[:: max(1, len(images) // _ENOUGH_IMAGES)]

        def encoded() -> Iterator[np.ndarray]:
            for start in range(0, len(chosen), _AT_ONCE):
                yield (2.0 * chosen[start : start + _AT_ONCE] + 1.0) / levels - 1.0

        mean = np.sum([part.sum(axis=0) for part in encoded()], axis=0) / len(chosen)
        centred = (part - mean for part in encoded())
        basis, variance = self.covariance.fit(centred, len(chosen), images.shape[1:])
        shrunk = np.maximum(variance, 0.0) + (2.0 / levels) ** 2 / len(chosen)
        return {"mean": mean, "basis": basis, "variance": shrunk}

    def output(
        self,
        statistics: Statistics,
        path: Path,
        parameterization: Parameterization,
        gamma: Float[Array, "b 1 1 1"],
        z: Images,
    ) -> ValueAndTrace:
        """What the network would answer at z if the images were Gaussian, and tr ∂answer/∂z."""
        mean, w = statistics["mean"][None], statistics["variance"][None]
        alpha, sigma = path.alpha(gamma), path.sigma(gamma)
        variance = jnp.square(alpha) * w + jnp.square(sigma)
        slopes = parameterization.target(path, gamma, alpha * w / variance, sigma / variance)
        basis = statistics["basis"]
        along = self.covariance.coordinates(basis, z - alpha * mean)
        at_mean = parameterization.target(path, gamma, mean, jnp.zeros_like(mean))
        answer = self.covariance.images(basis, slopes * along) + at_mean
        return ValueAndTrace(answer, jnp.sum(slopes, axis=(1, 2, 3)))


def trained(parameters: Parameters) -> Parameters:
    """All parameters but the statistics, which no step changes."""
    return {name: part for name, part in parameters.items() if name != BASE}
