"""The U-Net without down-sampling."""

import flax.linen as nn
import jax.numpy as jnp

from diffusion_ode.checking import check_count
from diffusion_ode.errors import UserError
from diffusion_ode.networks.embedding import fourier_features, time_embedding
from diffusion_ode.networks.residual_block import (
    NORM_EPSILON,
    NORM_GROUPS,
    AttentionBlock,
    ResidualBlock,
)
from diffusion_ode.typing import Images, PerImage


class UNet(nn.Module):
    """L blocks down, a middle with attention, L + 1 blocks up on the kept outputs; full resolution.

    Every path keeps the image's height and width, so any size will do. The parameters bear the
    published names (`down.block_0/conv1/kernel`). The output is z plus a convolution that starts
    at zero.

    Attributes:
      features: C, a multiple of 32 (the groups of GroupNorm).
      blocks: L.
      attention: attention after every block, not only in the middle.
      dropout: rate within the blocks.
      fourier_exponents: n of the features sin, cos(2π·2ⁿ·z); () for none.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix B; Zheng et al. 2023, arXiv:2305.03935,
    appendix H.
    """

    features: int = 128
    blocks: int = 32
    attention: bool = False
    dropout: float = 0.1
    fourier_exponents: tuple[int, ...] = (6, 7)

    def __post_init__(self):
        if self.features % NORM_GROUPS:
            raise UserError(
                f"features = {self.features} is not a multiple of {NORM_GROUPS}, the number of"
                " normalisation groups: choose 32, 64, 96, …"
            )
        check_count("blocks", self.blocks, "give the U-Net at least one")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout = {self.dropout} is not in [0, 1): give a rate below one.")
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Images, time: PerImage, flag: PerImage, *, deterministic: bool = True):
        """One evaluation.

        Args:
          z: noised images.
          time: in [0, 1], from data to noise.
          flag: 1 where the image was augmented.
          deterministic: without dropout; with it, a `dropout` key must be given.

        Returns:
          [b, h, w, c], like z.
        """
        condition = self._condition(time, flag)

        def block(name, h):
            width, rate = self.features, self.dropout
            return ResidualBlock(width, rate, name=name.replace(".", ".block_"))(
                h, condition, deterministic=deterministic
            )

        def attend(name, h):
            return AttentionBlock(name=name.replace(".", ".attn_"))(h)

        h = nn.Conv(self.features, (3, 3), name="conv_in")(
            fourier_features(z, self.fourier_exponents)
        )
        kept = [h]
        for i in range(self.blocks):
            h = block(f"down.{i}", h)
            if self.attention:
                h = attend(f"down.{i}", h)
            kept.append(h)

        h = block("mid.1", h)
        h = attend("mid.1", h)
        h = block("mid.2", h)

        for i in range(self.blocks + 1):
            h = block(f"up.{i}", jnp.concatenate([h, kept.pop()], axis=-1))
            if self.attention:
                h = attend(f"up.{i}", h)

        h = nn.swish(nn.GroupNorm(NORM_GROUPS, epsilon=NORM_EPSILON, name="GroupNorm_0")(h))
        out = nn.Conv(z.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, name="conv_out")(h)
        return z + out

    def _condition(self, time, flag):
        """[b, 4C], from time and flag."""
        width = 4 * self.features
        h = jnp.concatenate([time_embedding(time, self.features), flag[:, None]], axis=-1)
        h = nn.swish(nn.Dense(width, name="dense0")(h))
        return nn.swish(nn.Dense(width, name="dense1")(h))
