"""The U-Net that goes down to smaller images and up again."""

import functools
import itertools
from dataclasses import field
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.computation import SAME_PARAMETERS, SAME_VALUES
from diffusion_ode.errors import UserError
from diffusion_ode.networks.block_loop import BlockLoop, ByPlatform, Unrolled
from diffusion_ode.networks.counted_flops import counted_flops
from diffusion_ode.networks.embedding import (
    SinesOfTime,
    TimeFeatures,
    condition_of,
    fourier_features,
)
from diffusion_ode.networks.multi_scale_block import (
    Adm,
    Family,
    MultiHeadAttention,
    MultiScaleBlock,
)
from diffusion_ode.networks.network import ForwardFlops
from diffusion_ode.networks.precision import Float32, Precision
from diffusion_ode.networks.rematerialization import KeepAll, Rematerialization
from diffusion_ode.networks.resampling import MeanAndNearest, Resampling
from diffusion_ode.networks.residual_block import NORM_GROUPS
from diffusion_ode.ranges import Blocks, Exponent, Fraction, Width, Within
from diffusion_ode.suggestions import all_of, either
from diffusion_ode.typing import Images, PerImage


class _Weights(NamedTuple):
    """A block's own; names while parameters are made, None where it has none."""

    block: Any
    attention: Any = None
    dropout_key: Any = None


class MultiScaleUNet(nn.Module):
    """ADM's U-Net, or that of DDPM++ and NCSN++: levels of half the height and width each.

    Level l is features·multipliers[l] wide: `blocks` residual blocks down, the same and one more up
    on the outputs kept; between levels a residual block resamples. In the middle there is attention
    between two blocks. The last convolution starts at zero, and is the output.

    Published sizes:

    | network | features | multipliers | blocks | attention_at | head_width | otherwise |
    |---|---|---|---|---|---|---|
    | Flow Matching, CIFAR-10 | 256 | (1, 2, 2, 2) | 2 | (16,) | 64 | |
    | Flow Matching, ImageNet32 | 256 | (1, 2, 2, 2) | 3 | (16, 8) | 64 | |
    | Flow Matching, ImageNet64 | 192 | (1, 2, 3, 4) | 3 | (32, 16, 8) | 64 | |
    | DDPM++ (deep) | 128 | (1, 2, 2, 2) | 4 (8) | (16,) | None | family=ScoreSde(), dropout=0.1 |
    | NCSN++ (deep) | 128 | (1, 2, 2, 2) | 4 (8) | (16,) | None | the same, and
      resampling=BinomialFilter(), time_features=RandomSinesOfNoise(), input_pyramid=True |

    A weight per feature of the time's layer is for the augmentation's flag, which theirs lack.

    Attributes:
      features: of the first level, a multiple of 32 (the groups of GroupNorm).
      multipliers: of each level's width.
      blocks: of each level.
      attention_at: the heights at which attention follows the blocks.
      head_width: channels of a head; None for one head.
      dropout: rate within the blocks.
      family: how blocks are built.
      resampling: how sizes are halved and doubled.
      time_features: what it is told of time or noise.
      input_pyramid: the image itself is brought in at each level, halved by convolutions.
      fourier_exponents, fourier_damping: as in `UNet`.
      precision, remat, loop: as in `UNet`; the loop goes through a level's equal blocks.

    Source: Dhariwal and Nichol 2021, arXiv:2105.05233, section 3; Lipman et al. 2022,
    arXiv:2210.02747, table 3; Song et al. 2021, arXiv:2011.13456, appendix H.
    """

    features: Annotated[int, Within(32, 2**16, multiple_of=NORM_GROUPS)] = 128
    multipliers: tuple[Width, ...] = (1, 2, 2, 2)
    blocks: Blocks = 2
    attention_at: tuple[Width, ...] = (16,)
    head_width: Width | None = 64
    dropout: Fraction = 0.0
    family: Family = field(default_factory=Adm)
    resampling: Resampling = field(default_factory=MeanAndNearest)
    time_features: TimeFeatures = field(default_factory=SinesOfTime)
    input_pyramid: bool = False
    fourier_exponents: tuple[Exponent, ...] = ()
    fourier_damping: bool = False
    precision: Precision = field(default_factory=Float32, metadata=SAME_PARAMETERS)
    remat: Rematerialization = field(default_factory=KeepAll, metadata=SAME_VALUES)
    loop: BlockLoop = field(default_factory=ByPlatform, metadata=SAME_VALUES)

    def __post_init__(self):
        check_fields(self)
        if not self.multipliers:
            raise UserError("multipliers = () leaves no level: give one per level.")
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
        """From z [b, h, w, c] to the same; the arguments are those of `UNet`."""
        levels, dtype = len(self.multipliers), self.precision.dtype
        self._check_size(z.shape[1:3])
        making = self.is_initializing()
        loop = Unrolled() if making else self.loop
        key = None if deterministic or not self.dropout else self.make_rng("dropout")
        places = itertools.count()
        told = self.time_features(time, sigma, self.features)
        condition = condition_of(told, flag, 4 * self.features, dtype)

        def weights(block: str, attention: str | None = None) -> _Weights:
            if making:  # Flax makes the parameters, each under its name
                return _Weights(block, attention)
            own = self.variables["params"]
            # Told by its place among all, whatever the loop.
            place = None if key is None else jax.random.fold_in(key, next(places))
            return _Weights(own[block], own[attention] if attention else None, place)

        def block_of(features: int, resample=None):
            heads = self._heads(features)
            parts = functools.partial(
                MultiScaleBlock, features, self.dropout, self.family, resample
            )

            def made(names, h):
                h = parts(name=names.block)(h, condition)
                if names.attention is None:
                    return h
                return MultiHeadAttention(heads, self.family, name=names.attention)(h)

            @jax.jit  # equal blocks are traced once; the compiler sees through it
            def applied(own, h):
                block = parts(dtype, parent=None)
                h = block.apply({"params": own.block}, h, condition, own.dropout_key)
                if own.attention is None:
                    return h
                attention = MultiHeadAttention(heads, self.family, dtype, parent=None)
                return attention.apply({"params": own.attention}, h)

            return made if making else self.remat.wrap(applied)

        def level_weights(way: str, level: int, height: int) -> list[_Weights]:
            last = self.blocks if way == "up" else self.blocks - 1
            names = []
            for i in range(last + 1):
                attends = height in self.attention_at and (
                    way == "down" or self.family.attention_after_each or i == last
                )
                attention = f"{way}{level}.attention_{i}" if attends else None
                names.append(weights(f"{way}{level}.block_{i}", attention))
            return names

        pyramid = z
        damping = sigma if self.fourier_damping else None
        # The features are of z's last bits: they are made before anything is rounded.
        h = fourier_features(z, self.fourier_exponents, damping)
        h = nn.Conv(self._width(0), (3, 3), dtype=dtype, name="conv_in")(h)
        kept = []  # of each level what went into it, and what came of its blocks
        for level in range(levels):
            block = block_of(self._width(level))
            first, *rest = level_weights("down", level, h.shape[1])
            entered, h = h, block(first, h)
            h, outputs = loop.down(block, h, rest) if rest else (h, [h])
            kept.append((entered, outputs))
            if level < levels - 1:
                halve = block_of(self._width(level), self.resampling.down)
                h = halve(weights(f"down{level}.resample"), h)
                if self.input_pyramid:
                    smaller = self.resampling.before_stride(pyramid)
                    conv = functools.partial(nn.Conv, strides=(2, 2), padding="VALID", dtype=dtype)
                    own = conv(h.shape[-1], (3, 3), name=f"down{level}.pyramid")
                    pyramid = h = (own(smaller) + h) * self.family.sum_scale

        block = block_of(self._width(levels - 1))
        h = block(weights("middle.block_0", "middle.attention"), h)
        h = block(weights("middle.block_1"), h)

        for level in reversed(range(levels)):
            block, (entered, outputs) = block_of(self._width(level)), kept.pop()
            first, *rest, last = level_weights("up", level, h.shape[1])
            h = block(first, jnp.concatenate([h, outputs[-1]], axis=-1))
            h = loop.up(block, h, rest, outputs[:-1]) if rest else h
            h = block(last, jnp.concatenate([h, entered], axis=-1))
            if level:
                double = block_of(self._width(level), self.resampling.up)
                h = double(weights(f"up{level}.resample"), h)

        norm = nn.GroupNorm(
            NORM_GROUPS, epsilon=self.family.epsilon, dtype=z.dtype, name="norm_out"
        )
        zeros = nn.initializers.zeros
        return nn.Conv(z.shape[-1], (3, 3), kernel_init=zeros, name="conv_out")(nn.swish(norm(h)))

    @nn.nowrap
    def forward_flops(self, shape: tuple[int, int, int]) -> ForwardFlops:
        return counted_flops(self, shape)

    def _width(self, level: int) -> int:
        return self.features * self.multipliers[level]

    def _heads(self, features: int) -> int:
        if self.head_width is None:
            return 1
        if features % self.head_width:
            raise UserError(
                f"head_width = {self.head_width} does not divide a level's width, {features}:"
                " choose a divisor, or None for one head."
            )
        return features // self.head_width

    def _check_size(self, size: tuple[int, ...]) -> None:
        halvings = len(self.multipliers) - 1
        if any(side % 2**halvings for side in size):
            raise UserError(
                f"Images of {size[0]}×{size[1]} cannot be halved {halvings} times, as the"
                f" {halvings + 1} multipliers ask for: give fewer of them, such as"
                f" --set model.network.multipliers={self.multipliers[:2]}."
            )
        heights = tuple(size[0] // 2**level for level in range(halvings + 1))
        nowhere = [height for height in self.attention_at if height not in heights]
        if nowhere:
            raise UserError(
                f"attention_at = {self.attention_at} names {all_of(map(str, nowhere))}, which none"
                f" of the levels has: choose among their heights, {either(map(str, heights))}, or"
                " give () for attention in the middle alone."
            )
