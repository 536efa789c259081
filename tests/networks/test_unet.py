"""The U-Net's shape, names and beginnings; its values are held by the recording."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from diffusion_ode.errors import UserError
from diffusion_ode.networks.embedding import fourier_features, time_embedding
from diffusion_ode.networks.unet import UNet

NETWORK = UNet(features=32, blocks=1, fourier_exponents=(2, 3))


def initialised(network=NETWORK, shape=(2, 5, 4, 3)):
    z = jax.random.normal(jax.random.key(0), shape)
    parameters = jax.jit(network.init)(jax.random.key(1), z, *[jnp.zeros(2)] * 3)
    return z, parameters


@pytest.fixture(scope="module")
def fresh():
    return initialised()


def test_a_fresh_network_answers_with_what_it_was_given(fresh):
    z, parameters = fresh
    out = jax.jit(NETWORK.apply)(parameters, z, jnp.asarray([0.1, 0.9]), jnp.ones(2), jnp.ones(2))
    assert np.array_equal(out, z)


def test_parameters_bear_the_published_names_and_shapes(fresh):
    names = {"/".join(path) for path in flatten_dict(fresh[1]["params"])}
    assert {
        "conv_in/kernel",
        "dense0/kernel",
        "down.block_0/GroupNorm_1/scale",
        "down.block_0/cond_proj/kernel",
        "mid.attn_1/proj_out/bias",
        "mid.block_2/conv2/kernel",
        "up.block_1/nin_shortcut/kernel",
        "GroupNorm_0/scale",
        "conv_out/bias",
    } <= names
    assert not any("attn" in name and not name.startswith("mid") for name in names)
    assert "down.block_0/cond_proj/bias" not in names
    kernel = fresh[1]["params"]["conv_in"]["kernel"]
    assert kernel.shape == (3, 3, 3 * (1 + 2 * 2), 32)  # z, and a sine and cosine per exponent


def test_attention_in_every_block_adds_it_to_every_block():
    network = UNet(features=32, blocks=1, attention=True)
    z = jnp.zeros((1, 2, 2, 1))
    shapes = jax.eval_shape(network.init, jax.random.key(0), z, *[jnp.zeros(1)] * 3)
    attention = {path[0] for path in flatten_dict(shapes["params"]) if ".attn_" in path[0]}
    assert attention == {"down.attn_0", "mid.attn_1", "up.attn_0", "up.attn_1"}


def test_fourier_features_come_sines_first_and_channel_by_channel():
    z = jnp.asarray([0.01, 0.02]).reshape(1, 1, 1, 2)
    found = np.asarray(fourier_features(z, (0, 1))).ravel()
    angles = 2 * np.pi * np.array([0.01, 0.02, 0.02, 0.04])  # z-channel, then exponent
    assert np.allclose(found, [0.01, 0.02, *np.sin(angles), *np.cos(angles)], atol=1e-6)
    assert fourier_features(z, ()) is z


def test_damped_features_are_the_best_linear_estimate_of_the_clean_ones():
    """Of sin(ωx) from sin(ωz), z = x + σε, over all phases; their slope is at most 0.61/σ."""
    sigma = np.float32(0.3)
    x = np.linspace(0, 1, 64, endpoint=False)[:, None]
    noise = sigma * np.random.default_rng(0).normal(size=(1, 20_000))
    z = jnp.asarray((x + noise)[..., None, None], jnp.float32)
    found, undamped = (
        np.asarray(fourier_features(z, (0,), s))[..., 0, 1] for s in (jnp.full(64, sigma), None)
    )
    best = np.mean(undamped * np.sin(2 * np.pi * x)) / np.mean(undamped**2)
    assert np.allclose(found, best * undamped, atol=0.01)

    z = jnp.linspace(0, 1, 100).reshape(-1, 1, 1, 1)
    for sigma in (1e-3, 1e-2, 0.1, 1.0):
        features = functools.partial(
            fourier_features, exponents=(2, 5, 7), sigma=jnp.full(100, sigma)
        )
        _, slopes = jax.jvp(features, (z,), (jnp.ones_like(z),))
        assert np.max(np.abs(slopes[..., 1:])) <= 0.607 / sigma


def test_time_embedding_has_its_shortest_and_longest_period_at_the_ends():
    found = np.asarray(time_embedding(jnp.asarray([0.25]), 8))[0]
    frequencies = np.exp(-np.log(10_000) * np.arange(4) / 3)
    angles = 250 * frequencies
    assert np.allclose(found, [*np.sin(angles), *np.cos(angles)], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": 33}, "features = 33"),
        ({"blocks": 0}, "blocks = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
    ],
)
def test_impossible_networks_are_refused_with_a_remedy(options, words):
    with pytest.raises(UserError, match=words):
        UNet(**options)
