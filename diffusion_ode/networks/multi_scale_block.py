"""The blocks of a multi-scale U-Net, and what its two families do differently."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp

from diffusion_ode.networks.attention import self_attention
from diffusion_ode.networks.rematerialization import product
from diffusion_ode.networks.residual_block import NORM_GROUPS


@runtime_checkable
class Family(Protocol):
    """How the blocks of a family are built.

    Attributes:
      scale_shift: the condition scales and shifts the second normalisation; else it is added.
      sum_scale: what the sum of a block and its shortcut is multiplied by.
      resampled_shortcut: a shortcut that is resampled has a dense layer, too.
      attention_after_each: of a level's blocks on the way up; else after the last only.
      epsilon: of the normalisations.
    """

    scale_shift: ClassVar[bool]
    sum_scale: ClassVar[float]
    resampled_shortcut: ClassVar[bool]
    attention_after_each: ClassVar[bool]
    epsilon: ClassVar[float]


@dataclass(frozen=True)
class Adm:
    """The ablated diffusion model's, which Flow Matching takes over.

    Source: Dhariwal and Nichol 2021, arXiv:2105.05233, section 3.
    """

    scale_shift: ClassVar[bool] = True
    sum_scale: ClassVar[float] = 1.0
    resampled_shortcut: ClassVar[bool] = False
    attention_after_each: ClassVar[bool] = True
    epsilon: ClassVar[float] = 1e-5


@dataclass(frozen=True)
class ScoreSde:
    """Those of DDPM++ and NCSN++, which ScoreFlow and ScoreODE take over.

    Source: Song et al. 2021, arXiv:2011.13456, appendix H.
    """

    scale_shift: ClassVar[bool] = False
    sum_scale: ClassVar[float] = math.sqrt(0.5)
    resampled_shortcut: ClassVar[bool] = True
    attention_after_each: ClassVar[bool] = False
    epsilon: ClassVar[float] = 1e-6


class MultiScaleBlock(nn.Module):
    """Two 3×3 convolutions, each after GroupNorm and swish, and the condition between them.

    The second starts at zero. A block that resamples does so before the first, and on its shortcut.

    Attributes:
      features, dropout: as in `MultiScaleUNet`.
      family: how it is built.
      resample: from [b, h, w, c] to another height and width; None keeps them.
      dtype: of all but the norms' statistics and the parameters; None for that of the input.
    """

    features: int
    dropout: float
    family: Family
    resample: Callable | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x, condition, dropout_key=None):
        """x [b, h, w, any], condition [b, any] → [b, h, w, features]; without key no dropout."""
        family, inputs = self.family, x.shape[-1]
        norm = functools.partial(nn.GroupNorm, NORM_GROUPS, epsilon=family.epsilon)
        h = nn.swish(norm(dtype=self.dtype, name="norm1")(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = product(nn.Conv(self.features, (3, 3), dtype=self.dtype, name="conv1")(h))
        width = (1 + family.scale_shift) * self.features
        chosen = nn.Dense(width, dtype=self.dtype, name="condition")(condition)[:, None, None]
        normed = norm(dtype=self.dtype, name="norm2")
        if family.scale_shift:
            scale, shift = jnp.split(chosen, 2, axis=-1)
            h = normed(h) * (1.0 + scale) + shift
        else:
            h = normed(h + chosen)
        h = nn.Dropout(self.dropout)(
            nn.swish(h), deterministic=dropout_key is None, rng=dropout_key
        )
        h = nn.Conv(
            self.features, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype, name="conv2"
        )(h)
        if inputs != self.features or (self.resample is not None and family.resampled_shortcut):
            x = nn.Dense(self.features, dtype=self.dtype, name="shortcut")(x)
        return (x + h) * family.sum_scale


class MultiHeadAttention(nn.Module):
    """Self-attention over all positions, after GroupNorm; what it adds starts at zero."""

    heads: int
    family: Family
    dtype: Any = None

    @nn.compact
    def __call__(self, x):
        """From [b, h, w, c] to the same."""
        norm = nn.GroupNorm(NORM_GROUPS, epsilon=self.family.epsilon, dtype=self.dtype, name="norm")
        h = norm(x).reshape(x.shape[0], -1, x.shape[-1])
        attention = self_attention(
            self.heads, self.dtype, "attention", out_kernel_init=nn.initializers.zeros
        )
        return (x + attention(h).reshape(x.shape)) * self.family.sum_scale
