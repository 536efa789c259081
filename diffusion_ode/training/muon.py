"""Muon: momentum whose singular values are made alike, for the kernels within a network."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.learned_schedule import SCHEDULE
from diffusion_ode.ranges import Fraction, NonNegative, Positive
from diffusion_ode.training.optimizer import AdamW, Decayed, LearningRate, Schedule, WarmedUp
from diffusion_ode.typing import Parameters

_MUON, _ADAM = "muon", "adam"
# Five steps of s → a s + b s³ + c s⁵ take every singular value from 2e-3 of the norm up to between
# 0.7 and 1.2: the slope at zero is as steep as the quintic allows.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_SMALLEST_NORM = 1e-8


@dataclass(frozen=True)
class Muon(Decayed):
    """Muon for kernels, Adam for all else; both with decoupled weight decay, but not of biases.

    A kernel is a matrix with a row for each value that goes into an output. Nesterov's momentum
    m ← β m + g, M = g + β m = U S Vᵀ becomes about `rms` · √(the longer side) · U Vᵀ. With 0.2 that
    is as large as Adam's updates usually are, so that one learning rate does for both.

    Args:
      learning_rate, weight_decay: of both.
      momentum: β.
      rms: root mean square of a kernel's update, in units of the learning rate.
      b1, b2, eps: of Adam.
      clip_norm: as in `AdamW`.
      left_to_adam: whose kernels Adam updates, too: what images enter and leave by, and learned
        schedules.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale is that of Liu
    et al. 2025, arXiv:2502.16982, section 2.2.
    """

    traced: ClassVar = (*AdamW.traced, "momentum", "rms")
    learning_rate: NonNegative | LearningRate | Schedule = field(default_factory=WarmedUp)
    momentum: Fraction = 0.95
    rms: Positive = 0.2
    b1: Fraction = 0.9
    b2: Fraction = 0.99
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    clip_norm: Positive | None = None
    left_to_adam: tuple[str, ...] = ("conv_in", "conv_out", SCHEDULE)

    __post_init__ = check_fields

    def direction(self):
        adam = optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.eps)
        momentum = optax.chain(
            optax.trace(self.momentum, nesterov=True),
            optax.stateless_with_tree_map(lambda kernel, _: self.rms * spread(jnp.asarray(kernel))),
        )
        return optax.partition({_MUON: momentum, _ADAM: adam}, self._labels)

    def _labels(self, params: Parameters):
        """Which of the two takes a leaf."""

        def label(path, leaf):
            names = [part.key for part in path]
            is_matrix = names[-1] == "kernel" and leaf.ndim > 1
            return _MUON if is_matrix and names[0] not in self.left_to_adam else _ADAM

        return jax.tree_util.tree_map_with_path(label, params)


def spread(kernel: Float[Array, "*rows columns"]) -> Float[Array, "*rows columns"]:
    """About √(the longer side) · U Vᵀ of the matrix U S Vᵀ: its root mean square is about 1.

    The quintics are multiplied out in the smaller of the two Gram matrices, G, and meet the kernel
    once, at its end: for 64 × 576 that is 0.4 of the products that iterates of the kernel take.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    rows, columns = matrix.shape
    wide = matrix.T if rows > columns else matrix
    wide = wide / (jnp.linalg.norm(wide) + _SMALLEST_NORM)
    gram, identity = wide @ wide.T, jnp.eye(len(wide), dtype=wide.dtype)
    a, b, c = _QUINTIC
    product = identity
    for _ in range(_STEPS):
        now = product @ gram @ product  # the Gram matrix of product @ wide
        product = (a * identity + b * now + c * now @ now) @ product
    found = product @ wide * max(rows, columns) ** 0.5
    return (found.T if rows > columns else found).reshape(kernel.shape)
