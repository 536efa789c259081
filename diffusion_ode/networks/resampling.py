"""How a multi-scale network halves and doubles its images' height and width."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp

_TAPS = (1.0, 3.0, 3.0, 1.0)  # the binomial filter of order three
_AS_IMAGES = ("NHWC", "HWIO", "NHWC")


@runtime_checkable
class Resampling(Protocol):
    """Without parameters; on [b, h, w, c]."""

    def down(self, x) -> Any:
        """To half the height and width."""
        ...

    def up(self, x) -> Any:
        """To twice the height and width."""
        ...

    def before_stride(self, x) -> Any:
        """What a 3×3 convolution of stride 2 without padding takes to give half the size."""
        ...


@dataclass(frozen=True)
class MeanAndNearest:
    """The mean of two by two values, and every value four times.

    Source: Dhariwal and Nichol 2021, arXiv:2105.05233, section 3.
    """

    def down(self, x):
        return nn.avg_pool(x, (2, 2), (2, 2))

    def up(self, x):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)

    def before_stride(self, x):
        return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


@dataclass(frozen=True)
class BinomialFilter:
    """Through the filter (1, 3, 3, 1) along both axes, against aliasing.

    Source: Zhang 2019, arXiv:1904.11486; Song et al. 2021, arXiv:2011.13456, appendix H.
    """

    def down(self, x):
        return _filtered(x, padding=(1, 1), stride=2)

    def up(self, x):
        return 4.0 * _filtered(x, padding=(2, 2), dilation=2)

    def before_stride(self, x):
        return _filtered(x, padding=(2, 2))


def _filtered(x, padding: tuple[int, int], stride: int = 1, dilation: int = 1):
    taps, channels = jnp.asarray(_TAPS, x.dtype) / sum(_TAPS), x.shape[-1]
    kernel = jnp.broadcast_to(jnp.outer(taps, taps)[:, :, None, None], (4, 4, 1, channels))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        lhs_dilation=(dilation, dilation),
        dimension_numbers=_AS_IMAGES,
        feature_group_count=channels,
    )
