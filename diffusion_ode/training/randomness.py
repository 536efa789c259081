"""One key per run; every other key is folded from it by a stream's name and a step."""

import zlib

import jax

from diffusion_ode.typing import Array, Key


def stream_key(seed: int, stream: str, step: int | Array = 0) -> Key:
    """The key of a named stream at a step.

    A resumed run folds the same keys as one that was never stopped, on any number of devices.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(key, step)
