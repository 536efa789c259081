"""The diffusion transformer."""

import functools
import math
from dataclasses import field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.computation import SAME_PARAMETERS, SAME_VALUES
from diffusion_ode.errors import UserError
from diffusion_ode.networks.attention import self_attention
from diffusion_ode.networks.block_loop import BlockLoop, ByPlatform
from diffusion_ode.networks.counted_flops import counted_flops
from diffusion_ode.networks.embedding import fourier_features, time_embedding
from diffusion_ode.networks.network import ForwardFlops
from diffusion_ode.networks.precision import Float32, Precision
from diffusion_ode.networks.rematerialization import KeepAll, Rematerialization, product
from diffusion_ode.ranges import Blocks, Exponent, Width
from diffusion_ode.typing import Images, PerImage

_TIME_WIDTH = 256  # features of the time's sines, whatever the width: as published
_LONGEST_PERIOD = 10_000.0
_MLP_RATIO = 4  # hidden features of a block's perceptron per feature


class DiTBlock(nn.Module):
    """Attention and a perceptron, each normalised, shifted and scaled by the condition, and gated.

    What chooses shift, scale and gate starts at zero, and so a fresh block passes its input on.

    Source: Peebles and Xie 2023, arXiv:2212.09748, section 3.2 (adaLN-Zero).
    """

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x, condition):
        """x [b, tokens, c], condition [b, c] → [b, tokens, c]."""
        width = x.shape[-1]
        chosen = _chosen(6 * width, self.dtype, "modulation")(condition)[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(chosen, 6, axis=-1)
        h = _normed(x, self.dtype) * (1.0 + scale1) + shift1
        x = x + gate1 * self_attention(self.heads, self.dtype, "attention", **_XAVIER)(h)
        h = _normed(x, self.dtype) * (1.0 + scale2) + shift2
        dense = functools.partial(nn.Dense, dtype=self.dtype, **_XAVIER)
        h = product(dense(_MLP_RATIO * width, name="dense0")(h))
        return x + gate2 * dense(width, name="dense1")(nn.gelu(h))


class DiT(nn.Module):
    """Patches of p×p pixels as tokens, through equal blocks that time and flag modulate.

    The last layer starts at zero, and is the output. Published sizes, S, B, L and XL: width 384,
    768, 1024, 1152; blocks 12, 12, 24, 28; heads 6, 12, 16, 16. Theirs are told a class instead of
    the augmentation's flag, and answer with a variance beside the mean.

    Attributes:
      width: of a token, a multiple of 4 (the sines of its place) and of `heads`.
      blocks: how many.
      heads: of each attention.
      patch: p, a divisor of the images' height and width.
      fourier_exponents, fourier_damping: as in `UNet`.
      precision, remat, loop: as in `UNet`.

    Source: Peebles and Xie 2023, arXiv:2212.09748.
    """

    width: Width = 384
    blocks: Blocks = 12
    heads: Width = 6
    patch: Width = 2
    fourier_exponents: tuple[Exponent, ...] = ()
    fourier_damping: bool = False
    precision: Precision = field(default_factory=Float32, metadata=SAME_PARAMETERS)
    remat: Rematerialization = field(default_factory=KeepAll, metadata=SAME_VALUES)
    loop: BlockLoop = field(default_factory=ByPlatform, metadata=SAME_VALUES)

    def __post_init__(self):
        check_fields(self)
        divisor = math.lcm(4, self.heads)
        if self.width % divisor:
            raise UserError(
                f"width = {self.width} is not a multiple of {divisor}, of 4 and of the heads:"
                f" choose one, such as {divisor * (self.width // divisor + 1)}."
            )
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
        del deterministic  # there is no dropout
        (images, height, width, channels), p = z.shape, self.patch
        if height % p or width % p:
            raise UserError(
                f"patch = {p} does not divide images of {height}×{width}: choose a divisor of both."
            )
        dtype, rows, columns = self.precision.dtype, height // p, width // p
        condition = self._condition(time, flag)

        def made(name, x):
            return DiTBlock(self.heads, name=name)(x, condition)

        @jax.jit  # equal blocks are traced once; the compiler sees through it
        def applied(own, x):
            return DiTBlock(self.heads, dtype, parent=None).apply({"params": own}, x, condition)

        # The features are of z's last bits: they are made before anything is rounded.
        damping = sigma if self.fourier_damping else None
        x = fourier_features(z, self.fourier_exponents, damping)
        x = nn.Conv(self.width, (p, p), (p, p), dtype=dtype, name="patches", **_XAVIER)(x)
        x = (x + _places(rows, columns, self.width).astype(x.dtype)).reshape(images, -1, self.width)
        names = [f"block_{i}" for i in range(self.blocks)]
        if self.is_initializing():  # Flax makes the parameters, each under its name
            for name in names:
                x = made(name, x)
        else:
            own = [self.variables["params"][name] for name in names]
            x, _ = self.loop.down(self.remat.wrap(applied), x, own)
        shift, scale = jnp.split(
            _chosen(2 * self.width, dtype, "modulation")(condition)[:, None], 2, axis=-1
        )
        x = (_normed(x, z.dtype) * (1.0 + scale) + shift).astype(z.dtype)
        x = _chosen(p * p * channels, None, "out")(x)
        x = x.reshape(images, rows, columns, p, p, channels).swapaxes(2, 3)
        return x.reshape(z.shape)

    @nn.nowrap
    def forward_flops(self, shape: tuple[int, int, int]) -> ForwardFlops:
        return counted_flops(self, shape)

    def _condition(self, time, flag):
        """From time and flag, [b, width]."""
        dense = functools.partial(nn.Dense, dtype=self.precision.dtype)
        normal = nn.initializers.normal(0.02)
        h = dense(self.width, kernel_init=normal, name="time0")(time_embedding(time, _TIME_WIDTH))
        h = dense(self.width, kernel_init=normal, name="time1")(nn.swish(h))
        told = dense(self.width, use_bias=False, kernel_init=normal, name="flag")(flag[:, None])
        return nn.swish(h + told)


_XAVIER: dict[str, Any] = {"kernel_init": nn.initializers.xavier_uniform()}


def _chosen(width: int, dtype: Any, name: str) -> nn.Dense:
    """A dense layer that starts at zero."""
    return nn.Dense(width, kernel_init=nn.initializers.zeros, dtype=dtype, name=name)


def _normed(x, dtype: Any):
    """Each token with mean 0 and variance 1, without parameters."""
    return nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False, dtype=dtype)(x)


def _places(rows: int, columns: int, width: int):
    """Fixed sines of each patch's column, then row: [rows, columns, width]."""
    frequency = _LONGEST_PERIOD ** (-jnp.arange(width // 4) / (width // 4))

    def sines(count):
        angle = jnp.arange(count)[:, None] * frequency
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)

    down = jnp.broadcast_to(sines(rows)[:, None], (rows, columns, width // 2))
    across = jnp.broadcast_to(sines(columns)[None], (rows, columns, width // 2))
    return jnp.concatenate([across, down], axis=-1)
