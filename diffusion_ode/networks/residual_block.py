"""The residual block of the U-Net."""

import flax.linen as nn
import jax.numpy as jnp

NORM_GROUPS = 32
NORM_EPSILON = 1e-6


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each after GroupNorm and swish; the condition is added between them.

    The condition's projection and the second convolution start at zero, so a fresh block passes its
    input on. A dense `nin_shortcut` stands in where the width changes.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix B (after Ho et al. 2020).
    """

    features: int
    dropout: float

    @nn.compact
    def __call__(self, x, condition, *, deterministic: bool):
        """x [b, h, w, any], condition [b, any] → [b, h, w, features]."""
        h = nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, name="GroupNorm_0")(x)
        h = nn.Conv(self.features, (3, 3), name="conv1")(nn.swish(h))
        projected = nn.Dense(
            self.features, use_bias=False, kernel_init=nn.initializers.zeros, name="cond_proj"
        )(condition)
        h = h + projected[:, None, None, :]
        h = nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, name="GroupNorm_1")(h)
        h = nn.Dropout(self.dropout)(nn.swish(h), deterministic=deterministic)
        h = nn.Conv(self.features, (3, 3), kernel_init=nn.initializers.zeros, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features, name="nin_shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """One head of self-attention over all positions, after GroupNorm; starts as the identity.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix B.
    """

    @nn.compact
    def __call__(self, x):
        """[b, h, w, c] → the same."""
        batch, height, width, channels = x.shape
        h = nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, name="GroupNorm_0")(x)
        h = h.reshape(batch, height * width, channels)
        query, key, value = (nn.Dense(channels, name=name)(h) for name in ("q", "k", "v"))
        logits = jnp.einsum("bqc,bkc->bqk", query, key) / jnp.sqrt(jnp.asarray(channels, x.dtype))
        mixed = jnp.einsum("bqk,bkc->bqc", nn.softmax(logits, axis=-1), value)
        out = nn.Dense(channels, kernel_init=nn.initializers.zeros, name="proj_out")(mixed)
        return x + out.reshape(x.shape)
