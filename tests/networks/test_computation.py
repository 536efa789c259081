"""Precision, rematerialisation and loop say how a U-Net is computed; what it is stays the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.networks.block_loop import ByPlatform, Scanned, Unrolled
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.networks.unet import UNet

SHAPE = (2, 2, 3, 3)
NETWORK = UNet(
    features=32, blocks=2, attention=True, dropout=0.3, fourier_exponents=(2,), loop=Unrolled()
)
FLOAT32_BOUND = 2e-5


@pytest.fixture(scope="module")
def parameters():
    """Every one of them random: the zeros of a fresh network would hide all that is behind them."""
    z = jnp.zeros(SHAPE)
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), z, *[jnp.zeros(2)] * 3)
    numbers = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.1 * numbers.normal(size=leaf.shape), leaf.dtype), shapes
    )


def evaluated(network, parameters):
    """The output with dropout, and the gradient of its mean square."""
    z = jax.random.normal(jax.random.key(1), SHAPE)

    @jax.jit
    def evaluate(parameters):
        def loss(parameters):
            time, flag = jnp.asarray([0.2, 0.7]), jnp.asarray([0.0, 1.0])
            rngs = {"dropout": jax.random.key(2)}
            out = network.apply(parameters, z, time, flag, time, deterministic=False, rngs=rngs)
            return jnp.mean(out**2), out

        return jax.grad(loss, has_aux=True)(parameters)

    gradient, out = evaluate(parameters)
    return {"output": out, "gradient": gradient}


@pytest.fixture(scope="module")
def plain(parameters):
    return evaluated(NETWORK, parameters)


def largest_error(found, expected):
    """Relative to the largest value: some gradients are zero but for rounding."""
    differences = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), found, expected)
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected))
    return max(map(float, jax.tree.leaves(differences))) / largest


@pytest.mark.parametrize(
    "changes",
    [{"loop": Scanned()}, {"remat": KeepInputs()}, {"loop": Scanned(), "remat": KeepProducts()}],
    ids=["scanned", "keep inputs", "scanned, keep products"],
)
def test_the_same_parameters_give_the_same_values_and_derivatives(changes, parameters, plain):
    # Dropout is on: its masks are the same too.
    found = evaluated(dataclasses.replace(NETWORK, **changes), parameters)
    assert largest_error(found, plain) < FLOAT32_BOUND


def test_bfloat16_is_float32_to_its_precision_and_answers_in_float32(parameters, plain):
    network = dataclasses.replace(NETWORK, precision=Bfloat16())
    found = evaluated(network, parameters)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    assert 0.0 < largest_error(found["output"], plain["output"]) < 0.03
    assert largest_error(found["gradient"], plain["gradient"]) < 0.1


def test_parameters_are_the_same_for_every_way_of_computing():
    ways = [
        {},
        {"loop": Scanned(), "remat": KeepInputs(), "precision": Bfloat16()},
    ]
    z = jnp.zeros(SHAPE)
    trees = [
        jax.eval_shape(
            dataclasses.replace(NETWORK, **way).init,
            jax.random.key(0),
            z,
            *[z[:, 0, 0, 0]] * 3,
        )
        for way in ways
    ]
    assert trees[0] == trees[1]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trees[0]))


def test_what_products_are_kept_for_is_not_computed_again():
    def convolutions(remat):
        network = dataclasses.replace(NETWORK, blocks=1, remat=remat, loop=Scanned())
        z, time = jnp.zeros(SHAPE), jnp.zeros(2)
        shapes = jax.eval_shape(network.init, jax.random.key(0), z, time, time, time)
        gradient = jax.grad(lambda parameters: network.apply(parameters, z, time, time, time).sum())
        return str(jax.make_jaxpr(gradient)(shapes)).count("conv_general_dilated")

    assert convolutions(KeepProducts()) < convolutions(KeepInputs())


def test_blocks_are_unrolled_on_cpus_where_loops_are_slow(monkeypatch):
    from diffusion_ode.networks import block_loop

    for fast, chosen in ((False, Unrolled), (True, Scanned)):
        monkeypatch.setattr(block_loop, "loops_are_fast", lambda fast=fast: fast)
        assert isinstance(ByPlatform()._chosen(), chosen)
