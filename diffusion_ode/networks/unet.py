"""The U-Net without down-sampling."""

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax

from diffusion_ode.checking import check_fields
from diffusion_ode.computation import SAME_PARAMETERS, SAME_VALUES
from diffusion_ode.networks import unet_costs, unet_sizes
from diffusion_ode.networks.block_loop import BlockLoop, ByPlatform, Unrolled
from diffusion_ode.networks.embedding import condition_of, fourier_features, time_embedding
from diffusion_ode.networks.network import Activations, ForwardFlops
from diffusion_ode.networks.precision import Float32, Precision
from diffusion_ode.networks.rematerialization import KeepAll, Rematerialization
from diffusion_ode.networks.residual_block import (
    NORM_GROUPS,
    AttentionBlock,
    ResidualBlock,
    group_norm,
)
from diffusion_ode.ranges import Blocks, Exponent, Fraction, Within
from diffusion_ode.typing import Images, Key, Parameters, PerImage


class BlockNames(NamedTuple):
    """A block's name and that of the attention after it, if there is one."""

    block: str
    attention: str | None


class BlockWeights(NamedTuple):
    """What a block differs from its equals in; None where it has no attention or no dropout."""

    block: Parameters
    attention: Parameters | None
    dropout_key: Key | None


class UNet(nn.Module):
    """VDM's U-Net: L blocks down, a middle with attention, L + 1 blocks up on the kept outputs.

    Every path keeps the image's height and width, so any size will do. The parameters bear the
    published names (`down.block_0/conv1/kernel`). The output is z plus a convolution that starts
    at zero.

    Attributes:
      features: C, a multiple of 32 (the groups of GroupNorm). With 32 each group is one channel,
        whose mean is taken away with all that the time adds to it: such a network is not told γ.
      blocks: L.
      attention: attention after every block, not only in the middle.
      dropout: rate within the blocks.
      fourier_exponents: n of the features sin, cos(2π·2ⁿ·z); () for none.
      fourier_damping: whether they fade where noise hides them; see `fourier_features`.
      adds_input: whether the output is z plus the rest, as published; a model with a base knows
        more than z.
      precision: the type it is computed in; parameters and output are float32.
      remat: what of each block is kept for its gradient.
      loop: how the blocks are gone through.

    Source: Kingma et al. 2021, arXiv:2107.00630, appendix B; Zheng et al. 2023, arXiv:2305.03935,
    appendix H.
    """

    features: Annotated[int, Within(32, 2**16, multiple_of=NORM_GROUPS)] = 128
    blocks: Blocks = 32
    attention: bool = False
    dropout: Fraction = 0.1
    fourier_exponents: tuple[Exponent, ...] = (6, 7)
    fourier_damping: bool = False
    adds_input: bool = True
    precision: Precision = field(default_factory=Float32, metadata=SAME_PARAMETERS)
    remat: Rematerialization = field(default_factory=KeepAll, metadata=SAME_VALUES)
    loop: BlockLoop = field(default_factory=ByPlatform, metadata=SAME_VALUES)

    def __post_init__(self):
        check_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        z: Images,
        time: PerImage,
        flag: PerImage,
        sigma: PerImage,
        *,
        deterministic: bool = True,
    ):
        """One evaluation.

        Args:
          z: noised images.
          time: in [0, 1], from data to noise.
          flag: 1 where the image was augmented.
          sigma: of the noise in z; only the damping asks for it.
          deterministic: without dropout; with it, a `dropout` key must be given.

        Returns:
          [b, h, w, c], like z.
        """
        dtype = self.precision.dtype
        told = time_embedding(time, self.features)
        condition = condition_of(told, flag, 4 * self.features, dtype)

        def made(names, h):
            h = ResidualBlock(self.features, self.dropout, name=names.block)(h, condition)
            return h if names.attention is None else AttentionBlock(name=names.attention)(h)

        @jax.jit  # equal blocks are traced once; the compiler sees through it
        def applied(weights, h):
            block = ResidualBlock(self.features, self.dropout, dtype, parent=None)
            h = block.apply({"params": weights.block}, h, condition, weights.dropout_key)
            if weights.attention is None:
                return h
            return AttentionBlock(dtype, parent=None).apply({"params": weights.attention}, h)

        if self.is_initializing():  # Flax makes the parameters, each under its name
            block, loop, each = made, Unrolled(), list(self._names())
        else:
            block, loop, each = self.remat.wrap(applied), self.loop, self._weights(deterministic)

        # The features are of z's last bits: they are made before anything is rounded.
        features = fourier_features(
            z, self.fourier_exponents, sigma if self.fourier_damping else None
        )
        h = nn.Conv(self.features, (3, 3), dtype=dtype, name="conv_in")(features)
        h, kept = loop.down(block, h, each[: self.blocks])
        for own in each[self.blocks : self.blocks + 2]:
            h = block(own, h)
        h = loop.up(block, h, each[self.blocks + 2 :], kept)

        h = nn.swish(group_norm("GroupNorm_0", z.dtype)(h))
        out = nn.Conv(z.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, name="conv_out")(h)
        return z + out if self.adds_input else out

    @nn.nowrap
    def forward_flops(self, shape: tuple[int, int, int]) -> ForwardFlops:
        return unet_costs.forward_flops(self, shape)

    @nn.nowrap
    def activations(
        self, shape: tuple[int, int, int], *, directions: float, images: int
    ) -> Activations:
        return unet_costs.activations(self, shape, directions, images)

    @nn.nowrap
    def remedy(self, parameters: Mapping[str, Any], channels: int) -> str:
        return unet_sizes.remedy(self, parameters, channels)

    def _names(self) -> Iterator[BlockNames]:
        """Of all blocks, in the order in which they are gone through."""
        for way, numbers, attention in (
            ("down", range(self.blocks), self.attention),
            ("mid", (1,), True),
            ("mid", (2,), False),
            ("up", range(self.blocks + 1), self.attention),
        ):
            for i in numbers:
                yield BlockNames(f"{way}.block_{i}", f"{way}.attn_{i}" if attention else None)

    def _weights(self, deterministic: bool) -> list[BlockWeights]:
        """Each block's own; its dropout is told by its place among all, whatever the loop."""
        parameters = self.variables["params"]
        key = None if deterministic or not self.dropout else self.make_rng("dropout")
        return [
            BlockWeights(
                parameters[names.block],
                None if names.attention is None else parameters[names.attention],
                None if key is None else jax.random.fold_in(key, place),
            )
            for place, names in enumerate(self._names())
        ]
