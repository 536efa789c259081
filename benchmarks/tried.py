"""What was tried for a better likelihood in the same time, won or lost: see `benchmarks.trials`.

None of it moved into the program; `--set` takes it from here by its dotted name.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from data.augmentation import Augmented
from diffusion_ode.diffusion.covariance import Spectrum
from diffusion_ode.diffusion.gaussian_base import trained
from diffusion_ode.networks.embedding import condition_of, fourier_features, time_embedding
from diffusion_ode.networks.residual_block import AttentionBlock, group_norm
from diffusion_ode.training.optimizer import Decayed, Transformation
from diffusion_ode.training.state import TrainState
from diffusion_ode.typing import Parameters


class TriedUNet(nn.Module):
    """`UNet` with other blocks; it has no dropout and does not add z.

    Attributes:
      features, blocks, fourier_exponents: as in `UNet`.
      depthwise: width of a depthwise convolution, between whose output and a block's stand two
        dense layers with four times the features between them (Liu et al. 2022,
        arXiv:2201.03545); None: the two 3×3 convolutions of `ResidualBlock`.
      summed: depthwise convolutions as sums of shifted images, which XLA's CPU backend fuses.
      norms: of a block: 2, or 1, without that between the convolutions.
      start: scale of what a fresh block adds.
      attention: in the middle.
    """

    features: int = 64
    blocks: int = 2
    fourier_exponents: tuple[int, ...] = (6, 7)
    depthwise: int | None = None
    summed: bool = False
    norms: int = 2
    start: float = 0.0
    attention: bool = True

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic: bool = True):
        del deterministic
        told = time_embedding(time, self.features)
        condition = condition_of(told, flag, 4 * self.features, None)

        def block(h):
            return _Block(self.features, self.depthwise, self.summed, self.norms, self.start)(
                h, condition
            )

        h = nn.Conv(self.features, (3, 3), name="conv_in")(
            fourier_features(z, self.fourier_exponents, sigma)
        )
        kept = [h]
        for _ in range(self.blocks):
            h = block(h)
            kept.append(h)
        h = block(h)
        if self.attention:
            h = AttentionBlock()(h)
        h = block(h)
        for beside in reversed(kept):
            h = block(jnp.concatenate([h, beside], axis=-1))
        h = nn.swish(group_norm("GroupNorm_0", None)(h))
        return nn.Conv(z.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, name="conv_out")(h)


class _Block(nn.Module):
    features: int
    depthwise: int | None
    summed: bool
    norms: int
    start: float

    @nn.compact
    def __call__(self, x, condition):
        last = nn.initializers.zeros
        if self.start:
            last = nn.initializers.variance_scaling(self.start**2, "fan_in", "truncated_normal")
        projected = nn.Dense(
            self.features, use_bias=False, kernel_init=nn.initializers.zeros, name="cond_proj"
        )(condition)[:, None, None, :]
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = nn.Dense(self.features, name="nin_shortcut")(x)
        if self.depthwise is not None:
            h = _Depthwise(self.depthwise, self.summed)(shortcut) + projected
            h = nn.swish(nn.Dense(4 * self.features)(group_norm("GroupNorm_0", None)(h)))
            return shortcut + nn.Dense(self.features, kernel_init=last)(h)
        h = nn.swish(group_norm("GroupNorm_0", None)(x))
        h = nn.Conv(self.features, (3, 3), name="conv1")(h) + projected
        if self.norms == 2:
            h = group_norm("GroupNorm_1", None)(h)
        h = nn.swish(h)
        return shortcut + nn.Conv(self.features, (3, 3), kernel_init=last, name="conv2")(h)


class _Depthwise(nn.Module):
    width: int
    summed: bool

    @nn.compact
    def __call__(self, x):
        channels, width = x.shape[-1], self.width
        if not self.summed:
            return nn.Conv(channels, (width, width), feature_group_count=channels)(x)
        start = nn.initializers.truncated_normal(1.0 / width)
        # Muon, to which this is no matrix, knows a matrix by its name, `kernel`.
        weights = self.param("depthwise", start, (width**2, 1, channels))
        half = width // 2
        padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
        height, across = x.shape[1:3]
        shifted = (
            padded[:, i : i + height, j : j + across] * weights[i * width + j]
            for i in range(width)
            for j in range(width)
        )
        return sum(shifted)


@dataclass(frozen=True)
class OneVariance:
    """A covariance that is a multiple of the identity: a base with it is Karras et al.'s skip."""

    def identity(self, shape):
        return np.ones(1)

    def fit(self, centred, count, shape):
        variance = sum(float(np.sum(part**2)) for part in centred) / count / np.prod(shape)
        return Spectrum(np.ones(1), np.full(shape, variance))

    def coordinates(self, basis, images):
        return images * basis

    def images(self, basis, coordinates):
        return coordinates * basis


@dataclass(frozen=True)
class Shift:
    """One pixel up or down, left or right, or both, with probability ½; the flag says it was done.

    What comes in is 0.
    """

    def check(self, shape):
        del shape

    def apply(self, images, keys):
        places = keys.integers(0, 16)  # one of the eight shifts, or, as often as not, none
        moved = np.where(places < 8, places + (places >= 4), 4)
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = images.shape[1:3]
        found = images.copy()
        for place in range(9):
            down, right = divmod(place, 3)
            chosen = moved == place
            found[chosen] = padded[chosen, down : down + height, right : right + width]
        return Augmented(found, (moved != 4).astype(np.float32))


class _SoapState(NamedTuple):
    count: Any
    gradient: Any
    square: Any
    gram: Any
    basis: Any


@dataclass(frozen=True)
class Soap(Decayed):
    """Adam in the eigenbasis of a kernel's gradients, of its smaller side only.

    Source: Vyas et al. 2024, arXiv:2409.11321, algorithm 3 and its one-sided form.
    """

    learning_rate: Any = None
    b1: float = 0.95
    b2: float = 0.95
    eps: float = 1e-8
    every: int = 10
    weight_decay: float = 0.01
    clip_norm: float | None = None

    def direction(self):
        def side(leaf):
            return min(leaf.size // leaf.shape[-1], leaf.shape[-1]) if leaf.ndim > 1 else 1

        def init(params):
            zeros = jax.tree.map(jnp.zeros_like, params)
            gram = jax.tree.map(lambda leaf: jnp.zeros((side(leaf), side(leaf))), params)
            basis = jax.tree.map(lambda leaf: jnp.eye(side(leaf)), params)
            return _SoapState(jnp.zeros((), jnp.int32), zeros, zeros, gram, basis)

        def one(count, gradient, moment, square, gram, basis):
            turned = gradient.ndim > 1 and side(gradient) > 1
            wide = _wide(gradient) if turned else gradient
            moment = self.b1 * moment + (1 - self.b1) * gradient
            now, seen = (_wide(moment) if turned else moment), wide
            if turned:
                gram = self.b2 * gram + (1 - self.b2) * wide @ wide.T
                basis = jax.lax.cond(
                    count % self.every == 0,
                    lambda: jnp.linalg.qr(gram @ basis)[0],
                    lambda: basis,
                )
                now, seen = basis.T @ now, basis.T @ wide
            square_wide = _wide(square) if turned else square
            square_wide = self.b2 * square_wide + (1 - self.b2) * seen**2
            bias1, bias2 = 1 - self.b1 ** (count + 1), 1 - self.b2 ** (count + 1)
            update = now / bias1 / (jnp.sqrt(square_wide / bias2) + self.eps)
            if turned:
                update = _back(basis @ update, gradient)
                square_wide = _back(square_wide, gradient)
            return update, moment, square_wide, gram, basis

        def update(updates, state, params=None):
            del params
            leaves, tree = jax.tree.flatten(updates)
            parts = [tree.flatten_up_to(part) for part in state[1:]]
            found = [one(state.count, *each) for each in zip(leaves, *parts, strict=True)]
            steps, *rest = (tree.unflatten(part) for part in zip(*found, strict=True))
            return steps, _SoapState(state.count + 1, *rest)

        return optax.GradientTransformation(init, update)


@dataclass(frozen=True)
class ScheduleFree(Transformation):
    """Schedule-free AdamW, of Optax: its parameters are not the ones to be judged.

    Source: Defazio et al. 2024, arXiv:2405.15682.
    """

    learning_rate: float = 3e-3
    warmup_steps: int = 100

    def _optax(self):
        return optax.contrib.schedule_free_adamw(
            self.learning_rate, warmup_steps=self.warmup_steps, b2=0.99, weight_decay=0.01
        )

    def init(self, params):
        return self._optax().init(params)

    def update(self, updates, state, params=None, **_):
        return self._optax().update(updates, state, params)


def schedule_free(state: TrainState) -> Parameters:
    """The parameters that `ScheduleFree` means to be judged."""
    means = optax.contrib.schedule_free_eval_params(state.optimizer, trained(state.parameters))
    return {**state.parameters, **means}


def _wide(leaf):
    """A matrix of a kernel, no higher than wide."""
    matrix = leaf.reshape(-1, leaf.shape[-1])
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def _back(matrix, like):
    rows = like.size // like.shape[-1]
    return (matrix.T if rows > like.shape[-1] else matrix).reshape(like.shape)
