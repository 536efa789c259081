"""The arrays of a checkpoint: written as dicts of dicts, read back and verified leaf by leaf."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from diffusion_ode.checkpoints.digest import LeafFacts, leaf_facts, named_leaves, path_of
from diffusion_ode.checkpoints.errors import DamagedCheckpoint, raise_unless_damage

SMALL = 1 << 30  # bytes of arrays, which are read without asking how many lie on the disk
MAX_RATIO = 1000  # of bytes on the disk beyond that; compressing moments of zeros gives hundreds


def nested_arrays(tree: Any) -> dict[str, Any]:
    """The tree as dicts of dicts by the parts of its paths: independent of its classes.

    Arrays without elements are left out, as Orbax refuses to write them; their shape and dtype are
    among the facts.
    """
    named_leaves(tree)  # refuses two leaves of one name
    nested: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = _with_shape(leaf)
        if not math.prod(leaf.shape):
            continue
        *parents, last = path_of(path)
        folder = nested
        for part in parents:
            folder = folder.setdefault(part, {})
        folder[last] = leaf
    return nested


def nested_abstract(leaves: Mapping[str, LeafFacts]) -> dict[str, Any]:
    """Facts by path as dicts of dicts of `jax.ShapeDtypeStruct`s."""
    nested: dict[str, Any] = {}
    for name, facts in leaves.items():
        *parents, last = name.split("/")
        folder = nested
        for part in parents:
            folder = folder.setdefault(part, {})
        folder[last] = jax.ShapeDtypeStruct(facts.shape, jnp.dtype(facts.dtype))
    return nested


def kinds(abstract: Any) -> dict[str, str]:
    """What each leaf is to be, by path: `float32[3,3,1,32]`."""
    named = {name: _with_shape(leaf) for name, leaf in named_leaves(abstract).items()}
    return {name: LeafFacts(tuple(x.shape), str(x.dtype), "").kind for name, x in named.items()}


def read_arrays(folder: Path, saved: Mapping[str, LeafFacts], abstract: Any) -> Any:
    """Read the arrays that `abstract` names, onto its shardings, and verify their digests.

    Args:
        folder: what Orbax wrote for the state.
        saved: facts of every leaf when it was saved; `abstract` has been checked against them.
        abstract: `jax.ShapeDtypeStruct`s or arrays; without a sharding, the first device is meant.

    Raises:
        DamagedCheckpoint: a file is missing or broken, or the content is not what was saved.
    """
    placed = jax.tree.map(_placed, abstract)
    item = nested_arrays(placed)
    _check_size(folder, item)
    with raise_unless_damage():
        # Orbax's handler and not its checkpointer, which waits for all processes: one that finds
        # damage must be able to say so.
        arrays = item and ocp.PyTreeCheckpointHandler().restore(
            epath.Path(folder),
            args=ocp.args.PyTreeRestore(
                item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            ),
        )
        named = named_leaves(arrays)
        state = jax.tree_util.tree_map_with_path(
            lambda path, leaf: named.get("/".join(path_of(path)), _empty(leaf)), placed
        )
        for name, found in leaf_facts(state).items():
            if found != saved[name]:
                raise DamagedCheckpoint(f"the content of {name} is not what was saved")
        return state


def put(values: np.ndarray, abstract: Any) -> jax.Array:
    """A global array; every part a fresh copy, as a step may overwrite what it is given.

    Args:
        values: all of it, on the host.
        abstract: of which type and sharding; without one, the first device is meant.
    """
    placed = _placed(abstract)
    return jax.make_array_from_callback(
        placed.shape, placed.sharding, lambda index: np.array(values[index], placed.dtype)
    )


def _check_size(folder: Path, item: Any) -> None:
    """Refuses arrays that such files hardly hold: missing parts of them would be read as zeros."""
    claimed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(item))
    if claimed > SMALL:
        held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if claimed > MAX_RATIO * held:
            raise DamagedCheckpoint(f"its arrays of {claimed} bytes are said to lie in {held}")


def _with_shape(leaf: Any) -> Any:
    return leaf if hasattr(leaf, "shape") else jnp.asarray(leaf)


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    leaf = _with_shape(leaf)
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _empty(leaf: jax.ShapeDtypeStruct) -> jax.Array | None:
    """What stands for an array that was not written, if that is because it has no elements."""
    if math.prod(leaf.shape):
        return None
    return jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), leaf.sharding)
