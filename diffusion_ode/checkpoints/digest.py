"""A digest of a pytree's content, computed where the arrays live.

Orbax loads flipped bits silently, so every checkpoint carries this digest and it is computed again
after loading. Each leaf is reduced on its device by exact integer arithmetic: sums mod 2³² do not
depend on the order of summation, hence the digest is the same under any sharding and topology.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

# Two lanes of 32 bits each, since 64-bit integers are switched off in JAX by default. All constants
# are odd, as multiplying by an odd number loses no bit mod 2³². The first pair (2³² over
# the golden ratio; 2³¹ times the square root of two) spreads the index, the others mix the word.
_LANES = np.array(
    (
        (0x9E3779B1, 0xB504F333),
        (0x5BD1E995, 0xCC9E2D51),
        (0x2545F491, 0x7FEB352D),
        (0x1B873593, 0x846CA68B),
    ),
    np.uint32,
)  # [constant, lane]


@dataclass(frozen=True)
class LeafFacts:
    """What is known of one leaf without its values: `shape`, `dtype` (its name), `digest` (hex)."""

    shape: tuple[int, ...]
    dtype: str
    digest: str

    @property
    def kind(self) -> str:
        """Dtype and shape as people write them, e.g. `float32[3,3,1,32]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def path_of(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The parts of a leaf's path as plain names; a tree that is one leaf is called `leaf`."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path) or ("leaf",)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by path (`ema/conv/kernel`), in the tree's order.

    Raises:
        ValueError: two leaves have one name (a key that contains `/`).
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(path_of(path))
        if name in named:
            raise ValueError(f"two leaves are named {name!r}: no key of a state may contain '/'")
        named[name] = leaf
    return named


def leaf_facts(tree: Any) -> dict[str, LeafFacts]:
    """Shape, dtype and digest of every leaf of a tree of (possibly sharded) arrays, by path."""
    named = {name: _as_array(leaf) for name, leaf in named_leaves(tree).items()}
    # All are dispatched before the first is fetched: devices work while the host asks.
    lanes = [_compiled_lanes(_replicated(leaf))(leaf) for leaf in named.values()]
    return {
        name: LeafFacts(tuple(leaf.shape), str(leaf.dtype), "".join(f"{int(n):08x}" for n in pair))
        for (name, leaf), pair in zip(named.items(), jax.device_get(lanes), strict=True)
    }


def combine(facts: Mapping[str, LeafFacts]) -> str:
    """One hex string (64 digits, SHA-256) for all leaves: their paths, shapes, dtypes, contents."""
    listing = sorted([name, list(f.shape), f.dtype, f.digest] for name, f in facts.items())
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def digest(tree: Any) -> str:
    """The digest of a whole tree: equal exactly if all leaves agree in path, dtype, shape and bits.

    (Unequal trees agree with probability 2⁻⁶⁴ per leaf; trees that differ in one word never do.)
    """
    return combine(leaf_facts(tree))


def _as_array(leaf: Any) -> jax.Array:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def _replicated(leaf: jax.Array) -> NamedSharding | None:
    """Where the two sums go: to every device, so that each process can read them."""
    if isinstance(leaf.sharding, NamedSharding):
        return NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return None


@functools.cache
def _compiled_lanes(out_sharding: NamedSharding | None):
    # One small program per shape and dtype compiles far faster than one for all leaves together
    # (0.6 s against 3.9 s for 300 leaves of 7 shapes on CPU).
    return jax.jit(_lanes, out_shardings=out_sharding)


def _lanes(leaf: jax.Array) -> jax.Array:
    """uint32 [2]: for each lane Σ_i mix(word_i, i) mod 2³², with mix(·, i) a bijection.

    Being a bijection of the word for each index, one changed word always changes the sum; that mix
    depends on the index in a non-linear way makes swapped elements change it too.
    """
    words = _words(leaf)
    spread, first, second, third = (
        lax.expand_dims(constants, range(1, words.ndim + 1)) for constants in jnp.asarray(_LANES)
    )
    mixed = words[None] ^ (_flat_index(words.shape)[None] * spread + first)
    mixed = (mixed ^ (mixed >> 16)) * second
    mixed = (mixed ^ (mixed >> 15)) * third
    mixed = mixed ^ (mixed >> 16)
    return jnp.sum(mixed, axis=range(1, mixed.ndim), dtype=jnp.uint32)


def _words(leaf: jax.Array) -> jax.Array:
    """The leaf's bits as uint32, with a trailing axis where an element has more than 32 bits."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf).astype(jnp.uint32)
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    narrow = {1: jnp.uint8, 2: jnp.uint16}.get(np.dtype(leaf.dtype).itemsize, jnp.uint32)
    return lax.bitcast_convert_type(leaf, narrow).astype(jnp.uint32)


def _flat_index(shape: tuple[int, ...]) -> jax.Array:
    """uint32 [shape]: row-major position, mod 2³².

    Built from one iota per axis, as a reshape of a sharded array would gather it on every device.
    """
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        position = lax.broadcasted_iota(jnp.uint32, shape, axis)
        index = index + position * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return index
