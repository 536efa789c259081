"""Augmentation of training images, vectorised, from keys of (seed, example, epoch).

What happens to an example in an epoch is a function of those three numbers alone: not of the
batch it falls into, of worker threads, of processes or of where a run was resumed.
"""

import dataclasses
import itertools
from typing import Protocol, runtime_checkable

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError

# SplitMix64's increment and multipliers (Steele, Lea & Flood, "Fast splittable pseudorandom number
# generators", OOPSLA 2014): a counter-based generator that NumPy evaluates on whole arrays.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_MASK_64 = (1 << 64) - 1


def _mix(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's output function on uint64 arrays (multiplication wraps by design)."""
    bits = (bits ^ (bits >> np.uint64(30))) * _MULTIPLIER_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MULTIPLIER_2
    return bits ^ (bits >> np.uint64(31))


@dataclasses.dataclass(frozen=True)
class Keys:
    """One key per example, folded from (seed, example, epoch); draws are functions of a key.

    Attributes:
        bits: uint64 [b].
    """

    bits: np.ndarray

    @classmethod
    def fold(cls, seed: int, example: np.ndarray, epoch: np.ndarray) -> "Keys":
        """Keys of examples (positions in their split) [b] in their epochs [b]."""
        bits = np.full(np.shape(example), seed & _MASK_64, np.uint64)
        for number in (example, epoch):
            bits = _mix((bits + _INCREMENT) ^ _mix(np.asarray(number).astype(np.uint64)))
        return cls(bits)

    def integers(self, stream: int, bound: int) -> np.ndarray:
        """Uniform integers in [0, bound), int64 [b]; streams are independent of one another.

        The remainder's bias is bound / 2^64: none that could be seen.
        """
        offset = np.uint64((stream + 1) * int(_INCREMENT) & _MASK_64)
        return (_mix(self.bits + offset) % np.uint64(bound)).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Augmented:
    """Images uint8 [b,h,w,c], and float32 [b] flags: 1 where anything was done to an image."""

    images: np.ndarray
    flag: np.ndarray


@runtime_checkable
class Augmentation(Protocol):
    """A random change of images, of which a flag tells the network what it must know."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """Raise a UserError if images of this shape cannot be augmented so."""
        ...

    def apply(self, images: np.ndarray, keys: Keys) -> Augmented:
        """Augmented copies of images uint8 [b,h,w,c]."""
        ...


@dataclasses.dataclass(frozen=True)
class Flip:
    """Left to right with probability ½, which the network is not told of: the flag is always 0.

    So what it learns is the density of the images and their mirror images together.
    """

    def check(self, shape: tuple[int, int, int]) -> None:
        del shape

    def apply(self, images: np.ndarray, keys: Keys) -> Augmented:
        flipped = keys.integers(0, 2).astype(bool)[:, None, None, None]
        images = np.where(flipped, images[:, :, ::-1], images)
        return Augmented(images, np.zeros(len(images), np.float32))


@dataclasses.dataclass(frozen=True)
class FlipRotate:
    """The published augmentation of CIFAR-10: flips, quarter turns and, at will, channels.

    With probability ½ an image is flipped left to right; then, independently, with probability ½
    it is turned by k·90°, k uniform in {1, 2, 3}; then, at will, with probability ½ its channels
    are put into another order. So P(flag = 0) = ¼, or ⅛ with channels.

    Args:
      permute_channels: to one of the orders that are not the identity.
      shuffle_channels: to one of all orders, as published: the identity is among the six of three
        channels, so that one image in 48 has the flag 1 and is untouched.
    """

    permute_channels: bool = False
    shuffle_channels: bool = False

    def __post_init__(self):
        check_fields(self)
        if self.permute_channels and self.shuffle_channels:
            raise UserError(
                "FlipRotate cannot both permute and shuffle the channels: set"
                " data.augmentation.permute_channels=False for the published shuffling."
            )

    def check(self, shape: tuple[int, int, int]) -> None:
        height, width, channels = shape
        if height != width:
            raise UserError(
                f"Images of {height}×{width} cannot be turned by 90°: FlipRotate needs square "
                "ones; set data.augmentation=None."
            )
        if (self.permute_channels or self.shuffle_channels) and channels < 2:
            name = "permute_channels" if self.permute_channels else "shuffle_channels"
            raise UserError(
                f"FlipRotate({name}=True) needs at least two channels and the images "
                f"have one: set data.augmentation.{name}=False."
            )

    def apply(self, images: np.ndarray, keys: Keys) -> Augmented:
        images = np.array(images)
        flipped = keys.integers(0, 2) == 1
        images[flipped] = images[flipped, :, ::-1]

        turned = keys.integers(1, 2) == 1
        turns = np.where(turned, 1 + keys.integers(2, 3), 0)
        for k in (1, 2, 3):
            chosen = turns == k
            images[chosen] = np.rot90(images[chosen], k, axes=(1, 2))
        changed = flipped | turned

        if self.permute_channels or self.shuffle_channels:
            permuted = keys.integers(3, 2) == 1
            orders = list(itertools.permutations(range(images.shape[-1])))  # the identity first
            orders = orders[1:] if self.permute_channels else orders
            which = keys.integers(4, len(orders))
            for number, order in enumerate(orders):
                chosen = permuted & (which == number)
                images[chosen] = images[chosen][..., order]
            changed |= permuted
        return Augmented(images, changed.astype(np.float32))
