"""The digest of a state's content."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.checkpoints.digest import combine, digest, leaf_facts, named_leaves

ROOT = Path(__file__).parents[2]


def state():
    return {
        "float": jnp.linspace(-1, 1, 12).reshape(3, 4),
        "half": jnp.linspace(-1, 1, 5).astype(jnp.bfloat16),
        "step": jnp.int32(3),
        "words": jnp.arange(6, dtype=jnp.uint32),
        "flags": jnp.array([True, False, True]),
        "key": jax.random.key(7),
        "keys": jax.random.split(jax.random.key(1), 3),
        "nothing": jnp.zeros((0, 3)),
    }


def test_same_content_has_the_same_digest():
    assert digest(state()) == digest(state())


def test_every_single_flipped_bit_changes_the_digest():
    words = np.arange(5, dtype=np.float32)
    before = digest({"w": words})
    for position in range(5):
        for bit in range(32):
            flipped = words.copy()
            flipped.view(np.uint32)[position] ^= np.uint32(1 << bit)
            assert digest({"w": flipped}) != before, (position, bit)


def test_both_lanes_notice_a_flipped_bit():
    before = leaf_facts({"w": jnp.zeros(3)})["w"].digest
    after = leaf_facts({"w": jnp.array([0.0, -0.0, 0.0])})["w"].digest
    assert before[:8] != after[:8]
    assert before[8:] != after[8:]


@pytest.mark.parametrize("name", ["float", "half", "step", "words", "flags", "key", "keys"])
def test_every_kind_of_leaf_counts(name):
    changed = state()
    if name.startswith("key"):
        changed[name] = jax.random.fold_in(changed["key"], 1)
        changed["keys"] = jax.random.split(changed["key"], 3)
    elif name == "flags":
        changed[name] = ~changed[name]
    else:
        changed[name] = changed[name] + jnp.asarray(1, changed[name].dtype)
    assert digest(changed) != digest(state())


def test_swapped_elements_change_the_digest_even_when_they_differ_only_in_sign():
    assert digest({"w": jnp.array([1.0, -1.0])}) != digest({"w": jnp.array([-1.0, 1.0])})
    grid = jnp.arange(6.0).reshape(2, 3)
    assert digest({"w": grid}) != digest({"w": grid[:, ::-1]})


def test_dtype_shape_and_name_count():
    zeros = jnp.zeros((2, 3))
    assert digest({"w": zeros}) != digest({"w": zeros.astype(jnp.int32)})
    assert digest({"w": zeros}) != digest({"w": zeros.astype(jnp.bfloat16)})
    assert digest({"w": zeros}) != digest({"w": zeros.T})
    assert digest({"w": zeros}) != digest({"v": zeros})
    assert digest({"w": jnp.zeros((0, 2))}) != digest({"w": jnp.zeros((0, 3))})


def test_swapped_leaves_change_the_digest():
    a, b = jnp.zeros(3), jnp.ones(3)
    assert digest({"a": a, "b": b}) != digest({"a": b, "b": a})


def test_numpy_and_device_arrays_agree_and_order_of_names_is_indifferent():
    facts = leaf_facts({"w": np.arange(4, dtype=np.float32), "v": jnp.ones(2)})
    assert facts["w"] == leaf_facts({"w": jnp.arange(4, dtype=jnp.float32)})["w"]
    assert combine(facts) == combine(dict(reversed(facts.items())))


def test_ambiguous_names_are_refused():
    with pytest.raises(ValueError, match="a/b"):
        named_leaves({"a": {"b": 1}, "a/b": 2})


SHARDED = """
import jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import NamedSharding, PartitionSpec as P
from diffusion_ode.checkpoints.digest import leaf_facts
mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
x = {"w": jax.random.normal(jax.random.key(0), (4, 6)), "h": jnp.arange(8, dtype=jnp.bfloat16)}
one = leaf_facts(x)
for spec in (P(), P("a"), P(("a", "b"))):
    assert leaf_facts(jax.device_put(x, NamedSharding(mesh, spec))) == one, spec
x["w"] = jax.device_put(x["w"], NamedSharding(mesh, P("a", "b")))
assert leaf_facts(x) == one
"""


def test_digest_is_the_same_under_any_sharding():
    subprocess.run([sys.executable, "-c", SHARDED], check=True, timeout=120, cwd=ROOT)
