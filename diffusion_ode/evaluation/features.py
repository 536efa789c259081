"""Features of images by which samples are judged: computed by a network, or read from a file."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.sample_quality import Statistics

_CHANNELS = 3  # of what Inception was trained on
_BRIGHTEST = 255


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

    Where it has an attribute `weights`, that is the path of a file which its figures are known by.
    """

    @property
    def name(self) -> str:
        """What figures are said to be by."""
        ...

    def features(self, images: np.ndarray) -> Features:
        """Of images uint8 [n, h, w, 3], each in a size that the network brings to its own."""
        ...


@dataclass(frozen=True)
class Known:
    """What a file says of images: features, or their mean and covariance alone."""

    statistics: Statistics
    features: Features | None = None


def read_features(path: Path) -> Known:
    """The features or statistics of a file.

    `.npy` with features [n, d]; `.npz` with `features` or `pool_3` [n, d] and perhaps `logits`; or
    with `mu` and `sigma`, as of ADM's reference batches, pytorch-fid and torch-fidelity.

    Raises:
      UserError: it is none of those.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}: give the path of features or statistics.")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"features": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no .npy or .npz file of numbers: {error}.") from error
    pooled = next((arrays[name] for name in ("features", "pool_3") if name in arrays), None)
    if pooled is not None:
        pooled = _checked(path, "features", pooled.reshape(len(pooled), -1), 2)
        if len(pooled) < 2:
            raise UserError(f"{path} has features of {len(pooled)} image: give at least two.")
        logits = arrays.get("logits")
        if logits is not None:
            logits = _checked(path, "logits", logits, 2)
        return Known(Statistics.of(pooled), Features(pooled, logits))
    if not {"mu", "sigma"} <= arrays.keys():
        raise UserError(
            f"{path} has {', '.join(arrays) or 'no array'}: give `features` [n, d], or `mu` [d] and"
            " `sigma` [d, d]."
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
    return Known(Statistics(mean, covariance))


def _checked(path: Path, name: str, array: np.ndarray, axes: int) -> np.ndarray:
    if array.ndim != axes or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise UserError(
            f"{path} has `{name}` {array.dtype}{list(array.shape)}: it must be finite floats of"
            f" {axes} ax{'is' if axes == 1 else 'es'}."
        )
    return array.astype(np.float64)


def as_bytes(levels: np.ndarray, count: int) -> np.ndarray:
    """Levels [n, h, w, c] of so many → uint8 [n, h, w, 3]; grey ones in all three channels.

    Raises:
      UserError: there are neither one nor three channels.
    """
    channels = levels.shape[-1]
    if channels not in (1, _CHANNELS):
        raise UserError(
            f"Images of {channels} channels are not judged by a network for colours: give"
            " precomputed features by --set fid.features=FILE and fid.reference=FILE."
        )
    bright = np.rint(levels.astype(np.float64) * (_BRIGHTEST / (count - 1))).astype(np.uint8)
    return np.broadcast_to(bright, (*bright.shape[:-1], _CHANNELS))
