"""The residual block of the U-Net."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_ode.networks.rematerialization import product

NORM_GROUPS = 32
NORM_EPSILON = 1e-6


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each after GroupNorm and swish; the condition is added between them.

    The condition's projection and the second convolution start at zero, so a fresh block passes its
    input on. A dense `nin_shortcut` stands in where the width changes.

    Attributes:
      features, dropout: as in `UNet`.
      dtype: of all but the norms' statistics and the parameters; None for that of the input.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix B (after Ho et al. 2020).
    """

    features: int
    dropout: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x, condition, dropout_key=None):
        """x [b, h, w, any], condition [b, any] → [b, h, w, features]; without key no dropout."""
        h = nn.swish(group_norm("GroupNorm_0", self.dtype)(x))
        h = product(nn.Conv(self.features, (3, 3), dtype=self.dtype, name="conv1")(h))
        projected = nn.Dense(
            self.features,
            use_bias=False,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="cond_proj",
        )(condition)
        h = h + projected[:, None, None, :]
        h = nn.swish(group_norm("GroupNorm_1", self.dtype)(h))
        h = nn.Dropout(self.dropout)(h, deterministic=dropout_key is None, rng=dropout_key)
        h = nn.Conv(
            self.features, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype, name="conv2"
        )(h)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features, dtype=self.dtype, name="nin_shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """One head of self-attention over all positions, after GroupNorm; starts as the identity.

    Softmax is in float32 at least, whatever the type.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix B.
    """

    dtype: Any = None

    @nn.compact
    def __call__(self, x):
        """From [b, h, w, c] to the same."""
        batch, height, width, channels = x.shape
        h = group_norm("GroupNorm_0", self.dtype)(x)
        h = h.reshape(batch, height * width, channels)
        query, key, value = (
            product(nn.Dense(channels, dtype=self.dtype, name=name)(h)) for name in ("q", "k", "v")
        )
        # What scales and normalises is done on [b, positions, c], which is small beside the product
        # of all positions with all.
        query = query * channels**-0.5
        exact = jnp.promote_types(query.dtype, jnp.float32)
        logits = jnp.einsum("bqc,bkc->bqk", query, key, preferred_element_type=exact)
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
        mixed = jnp.einsum(
            "bqk,bkc->bqc", weights.astype(value.dtype), value, preferred_element_type=exact
        )
        mixed = product((mixed / weights.sum(axis=-1, keepdims=True)).astype(value.dtype))
        out = nn.Dense(
            channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="proj_out"
        )(mixed)
        return x + out.reshape(x.shape)


def group_norm(name: str, dtype: Any) -> nn.GroupNorm:
    """The normalisation everywhere; its statistics are in float32 at least."""
    return nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, dtype=dtype, name=name)
