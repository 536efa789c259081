"""A small diffusion transformer, after Peebles and Xie 2023, arXiv:2212.09748."""

import fiddle as fdl
import flax.linen as nn
import jax.numpy as jnp

from experiments.registry import experiment


class DiT(nn.Module):
    """Patches as tokens; time, flag and σ shift, scale and gate every block."""

    width: int = 64
    depth: int = 2
    heads: int = 4
    patch: int = 2

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic=True):
        (b, h, w, c), p, zeros = z.shape, self.patch, nn.initializers.zeros
        condition = nn.swish(nn.Dense(self.width)(jnp.stack([time, flag, sigma], axis=-1)))

        def normed(x, pieces):  # the norm shifted and scaled, and a gate if there is a third piece
            chosen = nn.Dense(pieces * self.width, kernel_init=zeros)(condition)[:, None]
            shift, scale, *gate = jnp.split(chosen, pieces, axis=-1)
            return nn.LayerNorm(use_bias=False, use_scale=False)(x) * (1 + scale) + shift, *gate

        x = nn.Conv(self.width, (p, p), (p, p))(z).reshape(b, -1, self.width)
        x += self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        for _ in range(self.depth):
            y, gate = normed(x, 3)
            x += gate * nn.MultiHeadDotProductAttention(self.heads)(y)
            y, gate = normed(x, 3)
            x += gate * nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(y)))
        x = nn.Dense(p * p * c, kernel_init=zeros)(*normed(x, 2))
        return z + x.reshape(b, h // p, w // p, p, p, c).swapaxes(2, 3).reshape(z.shape)


@experiment(parent="digits_vp")
def digits_dit(config: fdl.Config) -> fdl.Config:
    """A transformer learns the digits."""
    config.model.network = fdl.Config(DiT)
    return config
