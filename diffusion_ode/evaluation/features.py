"""Features of images by which samples are judged: computed by a network, or read from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.sample_quality import Statistics
from diffusion_ode.foreign_arrays import read_arrays

_CHANNELS = 3  # of what Inception was trained on
_BRIGHTEST = 255
_LARGEST = 1e30  # of a feature: what is made of its third powers stays finite
_MOST_FEATURES = 1 << 12  # of an image: the root of their covariances takes minutes
_ROUNDING = 1e-3  # of the largest entry or eigenvalue of a covariance, in single precision


class Features(NamedTuple):
    """Of n images.

    Attributes:
      pooled: [n, d].
      logits: [n, classes], of which the Inception score is; None where there are none.
    """

    pooled: np.ndarray
    logits: np.ndarray | None = None


class FeatureNetwork(Protocol):
    """A network that images are judged by; a class of your own is set by its dotted name.

    Where it has an attribute `weights`, that is the path of a file which its figures are known by;
    see also `ChecksItself`.
    """

    @property
    def name(self) -> str:
        """What figures are said to be by."""
        ...

    def features(self, images: np.ndarray) -> Features:
        """Of images uint8 [n, h, w, 3], each in a size that the network brings to its own."""
        ...


@runtime_checkable
class ChecksItself(Protocol):
    """A network that can tell before any image is drawn what it lacks."""

    def check(self) -> None:
        """Loads nothing; raises UserError."""
        ...


@dataclass(frozen=True)
class Known:
    """What is known of images: features, or their mean and covariance alone."""

    statistics: Statistics
    features: Features | None = None

    @classmethod
    def of(cls, source: object, found: Features) -> "Known":
        """Of the features of a file or a network, which a refusal names.

        Raises:
          UserError: they are not finite floats of the same two images or more.
        """
        pooled, logits = _checked(source, "features", found.pooled, 2), found.logits
        if len(pooled) < 2:
            raise UserError(f"{source} has features of {len(pooled)} image: give at least two.")
        _check_width(source, pooled.shape[1])
        if logits is not None:
            logits = _checked(source, "logits", logits, 2)
            if len(logits) != len(pooled):
                raise UserError(
                    f"{source} has features of {len(pooled)} images and logits of {len(logits)}:"
                    " give both of the same images."
                )
        return cls(Statistics.of(pooled), Features(pooled, logits))


def read_features(path: Path) -> Known:
    """The features or statistics of a file.

    `.npy` with features [n, d]; `.npz` with `features` or `pool_3` [n, d] and perhaps `logits`; or
    with `mu` and `sigma`, as of ADM's reference batches, pytorch-fid and torch-fidelity.

    Raises:
      UserError: it is none of those, or larger than `foreign_arrays` has it.
    """
    if not path.exists():
        raise UserError(f"There is no file {path}: give the path of features or statistics.")
    arrays = read_arrays(path, ("features", "pool_3", "logits", "mu", "sigma"))
    pooled = next((arrays[name] for name in ("features", "pool_3") if name in arrays), None)
    if pooled is not None:
        if pooled.ndim > 2 and pooled.size:
            pooled = pooled.reshape(len(pooled), -1)
        return Known.of(path, Features(pooled, arrays.get("logits")))
    if not {"mu", "sigma"} <= arrays.keys():
        raise UserError(
            f"{path} has {', '.join(arrays) or 'no such array'}: give `features` [n, d], or `mu`"
            " [d] and `sigma` [d, d]."
        )
    mean, covariance = (
        _checked(path, "mu", arrays["mu"], 1),
        _checked(path, "sigma", arrays["sigma"], 2),
    )
    if covariance.shape != (len(mean),) * 2:
        raise UserError(
            f"{path} has `mu` {list(mean.shape)} and `sigma` {list(covariance.shape)}, which are"
            " not of the same features: write it anew."
        )
    _check_width(path, len(mean))
    _check_covariance(path, covariance)
    return Known(Statistics(mean, covariance))


def _checked(source: object, name: str, array: np.ndarray, axes: int) -> np.ndarray:
    kind = f"{array.dtype}{list(array.shape)}"
    if array.ndim != axes or array.dtype.kind != "f" or not array.size:
        raise UserError(
            f"{source} has `{name}` {kind}: it must be finite floats of {axes}"
            f" ax{'is' if axes == 1 else 'es'}."
        )
    if not (np.abs(array) <= _LARGEST).all():  # NaN is not
        raise UserError(
            f"{source} has `{name}` {kind} with values that are not finite floats, or beyond"
            f" {_LARGEST:g}: compute it anew."
        )
    return array.astype(np.float64)


def _check_width(source: object, features: int) -> None:
    if features > _MOST_FEATURES:
        raise UserError(
            f"{source} has {features} features of each image, whose covariance is too large: give"
            f" at most {_MOST_FEATURES}."
        )


def _check_covariance(path: Path, covariance: np.ndarray) -> None:
    if np.abs(covariance - covariance.T).max() > _ROUNDING * np.abs(covariance).max():
        raise UserError(f"{path} has a `sigma` that is not symmetric: write it anew.")
    eigenvalues = np.linalg.eigvalsh(covariance)
    if eigenvalues[0] < -_ROUNDING * np.abs(eigenvalues).max():
        raise UserError(
            f"{path} has a `sigma` with the eigenvalue {eigenvalues[0]:.3g}, where no covariance"
            " has one below 0: write it anew."
        )


def check_channels(channels: int) -> None:
    """Refuses images of neither one nor three channels."""
    if channels not in (1, _CHANNELS):
        raise UserError(
            f"Images of {channels} channels are not judged by a network for colours: give"
            " precomputed features by --set fid.features=FILE and fid.reference=FILE."
        )


def as_bytes(levels: np.ndarray, count: int) -> np.ndarray:
    """Levels [n, h, w, c] of so many → uint8 [n, h, w, 3]; grey ones in all three channels.

    Raises:
      UserError: there are neither one nor three channels.
    """
    check_channels(levels.shape[-1])
    bright = np.rint(levels.astype(np.float64) * (_BRIGHTEST / (count - 1))).astype(np.uint8)
    return np.broadcast_to(bright, (*bright.shape[:-1], _CHANNELS))
