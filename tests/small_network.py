"""A network that compiles in a blink, for tests that are not about the U-Net."""

import flax.linen as nn
import jax.numpy as jnp


class SmallNetwork(nn.Module):
    """Two convolutions with the time and flag between them."""

    features: int = 8
    dropout: float = 0.0

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic=True):
        del sigma
        condition = nn.Dense(self.features)(jnp.stack([time, flag], axis=-1))
        h = nn.Conv(self.features, (3, 3))(z) + condition[:, None, None, :]
        h = nn.Dropout(self.dropout)(nn.swish(h), deterministic=deterministic)
        return z + nn.Conv(z.shape[-1], (3, 3))(h)
