"""Random keys: one a run, below it one a purpose and step, below that one an image.

What is drawn for an image never depends on which others are drawn for, where, or how many at once:
each has a key of its own, into which `image_keys` folds its number. Training has no such keys. It
draws noise and times for the whole batch before that is divided; Flax's dropout, which draws where
the network is, takes one key for all of them, so `batch_key` makes one that counts the images
itself; and augmentation runs in NumPy, where `data.augmentation.Keys` folds numbers by a hash.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random as extended

from diffusion_ode.typing import Array, Key

_BASE = "threefry2x32"
_WORDS = 2  # of a Threefry key; a batch key has a third, the first image's position


def stream_key(seed: int | np.integer | Array, stream: str, step: int | Array = 0) -> Key:
    """The key of a named stream at a step.

    A resumed run folds the same keys as one that was never stopped, on any number of devices.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(key, step)


@jax.jit
def image_keys(key: Key, indices: Array) -> Key:
    """The keys [b] of the images of these numbers [b]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def batch_key(key: Key, first: int | Array = 0) -> Key:
    """A key whose draws of shape [b, …] are those of the images `first` to `first + b`.

    An image's numbers are the block cipher of (its position in the global batch, the place within
    the image), so they do not depend on which device draws them, nor with how many others. All else
    that one does with keys keeps the position.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    words = jax.random.bits(key, (_WORDS,), jnp.uint32)  # also with 64-bit types
    position = jnp.asarray(first, words.dtype)
    return jax.random.wrap_key_data(jnp.append(words, position), impl=_IMPLEMENTATION)


def shifted(key: Key, images: int | Array) -> Key:
    """The batch key of the images that lie so many positions further on."""
    data = jax.random.key_data(key)
    moved = data.at[..., _WORDS].add(jnp.asarray(images, data.dtype))
    return jax.random.wrap_key_data(moved, impl=_IMPLEMENTATION)


def _seed(seed):
    return jnp.append(jax.random.key_data(jax.random.key(seed, impl=_BASE)), jnp.uint32(0))


def _split(data, shape):
    words = jax.random.key_data(jax.random.split(_base(data), shape))
    return jnp.concatenate([words, jnp.broadcast_to(data[_WORDS:], (*shape, 1))], axis=-1)


def _fold_in(data, number):
    return jnp.append(jax.random.key_data(jax.random.fold_in(_base(data), number)), data[_WORDS:])


def _random_bits(data, bit_width, shape):
    per_image = shape[1:]
    image = jnp.broadcast_to(data[_WORDS], shape)
    place = jnp.zeros(shape, jnp.uint32)
    if shape:
        image = image + jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    stride = 1
    for axis in reversed(range(len(per_image))):
        place = place + jnp.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, shape, axis + 1)
        stride *= per_image[axis]
    high, low = extended.threefry2x32_p.bind(data[0], data[1], image, place)
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _base(data) -> Key:
    return jax.random.wrap_key_data(data[:_WORDS], impl=_BASE)


_IMPLEMENTATION = extended.define_prng_impl(
    key_shape=(_WORDS + 1,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="batch",
    tag="batch",
)
