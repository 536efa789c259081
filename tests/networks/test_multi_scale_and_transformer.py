"""The multi-scale U-Net and the transformer: sizes, beginnings, ways of computing, costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.networks.block_loop import Scanned, Unrolled
from diffusion_ode.networks.dit import DiT
from diffusion_ode.networks.embedding import RandomSinesOfNoise
from diffusion_ode.networks.multi_scale_block import ScoreSde
from diffusion_ode.networks.multi_scale_unet import MultiScaleUNet
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.networks.resampling import BinomialFilter, MeanAndNearest
from diffusion_ode.training.sharding import Placement

SHAPE = (2, 8, 8, 3)
ADM = MultiScaleUNet(32, (1, 2), 2, (4,), 32, dropout=0.3, loop=Unrolled())
NCSN = MultiScaleUNet(
    32,
    (1, 1),
    1,
    (8,),
    None,
    family=ScoreSde(),
    resampling=BinomialFilter(),
    time_features=RandomSinesOfNoise(),
    input_pyramid=True,
)
TRANSFORMER = DiT(width=16, blocks=3, heads=2, fourier_exponents=(2,), loop=Unrolled())
NETWORKS = pytest.mark.parametrize(
    "network", [ADM, NCSN, TRANSFORMER], ids=["ADM", "NCSN++", "DiT"]
)
REMAINING = pytest.mark.parametrize(  # of several sizes in minutes
    "network",
    [
        dataclasses.replace(ADM, multipliers=(1,), attention_at=(8,)),
        TRANSFORMER,
        pytest.param(ADM, marks=pytest.mark.long),
    ],
    ids=["ADM of one size", "DiT", "ADM"],
)


def shapes_of(network, shape=SHAPE):
    each = jnp.zeros(shape[0])
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape), each, each, each)


def count(network, shape):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(network, (1, *shape))))


def random_parameters(network):
    """Every one of them random: the zeros of a fresh network would hide all that is behind them."""
    numbers = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.1 * numbers.normal(size=leaf.shape), leaf.dtype),
        shapes_of(network),
    )


def evaluated(network, parameters):
    """The output, with dropout where there is any, and the gradient of its mean square."""
    z, time = jax.random.normal(jax.random.key(1), SHAPE), jnp.asarray([0.2, 0.7])
    rngs = {"dropout": jax.random.key(2)}

    @jax.jit
    def evaluate(parameters):
        def loss(parameters):
            out = network.apply(parameters, z, time, time, time, deterministic=False, rngs=rngs)
            return jnp.mean(out**2), out

        return jax.grad(loss, has_aux=True)(parameters)

    return evaluate(parameters)


def largest_error(found, expected):
    differences = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), found, expected)
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected))
    return max(map(float, jax.tree.leaves(differences))) / largest


@pytest.mark.parametrize(
    ("network", "shape", "theirs", "published"),
    [
        # ADM on ImageNet64: 1000 classes, and a variance beside the mean (three channels more).
        # Dhariwal and Nichol 2021, table 12: 296 M.
        (
            MultiScaleUNet(192, (1, 2, 3, 4), 3, (32, 16, 8)),
            (64, 64, 3),
            1000 * 4 * 192 + 3 * (9 * 192 + 1) - 4 * 192,
            295_904_454,
        ),
        # DDPM++ (cont.) and its deep version on CIFAR-10, layer by layer of score_sde's ncsnpp.py.
        (MultiScaleUNet(128, blocks=4, family=ScoreSde()), (32, 32, 3), -4 * 128, 61_804_419),
        (MultiScaleUNet(128, blocks=8, family=ScoreSde()), (32, 32, 3), -4 * 128, 106_632_579),
        # DiT-XL/2: 1000 classes and none, places that are kept, and a variance beside the mean.
        # "DiT Parameters: 675,129,632" in its program's log.
        (
            DiT(1152, 28, 16),
            (32, 32, 4),
            1001 * 1152 + 256 * 1152 + 16 * (1152 + 1) - 1152,
            675_129_632,
        ),
    ],
    ids=["ADM", "DDPM++", "DDPM++ deep", "DiT-XL/2"],
)
def test_parameters_are_as_many_as_published(network, shape, theirs, published):
    assert count(network, shape) + theirs == published


def layers_of_adm(features, multipliers, blocks, attention_at, side):
    """The parameters of guided-diffusion's `UNetModel`, in the order of its constructor."""
    dense = lambda i, o: (i + 1) * o  # noqa: E731
    conv = lambda i, o: (9 * i + 1) * o  # noqa: E731
    embedded = 4 * features

    def block(i, o):
        skip = dense(i, o) if i != o else 0
        return 2 * i + conv(i, o) + dense(embedded, 2 * o) + 2 * o + conv(o, o) + skip

    attention = lambda c: 2 * c + 4 * dense(c, c)  # noqa: E731
    width = features * multipliers[0]
    total = dense(features, embedded) + dense(embedded, embedded) + conv(3, width)
    outputs = [width]
    for level, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            total += block(width, features * multiplier)
            width = features * multiplier
            total += attention(width) if side in attention_at else 0
            outputs.append(width)
        if level < len(multipliers) - 1:
            total += block(width, width)
            outputs.append(width)
            side //= 2
    total += 2 * block(width, width) + attention(width)
    for level, multiplier in reversed(list(enumerate(multipliers))):
        for i in range(blocks + 1):
            total += block(width + outputs.pop(), features * multiplier)
            width = features * multiplier
            total += attention(width) if side in attention_at else 0
            if level and i == blocks:
                total += block(width, width)
                side *= 2
    return total + 2 * width + conv(width, 3)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ((256, (1, 2, 2, 2), 2, (16,)), 32),
        ((256, (1, 2, 2, 2), 3, (16, 8)), 32),
        ((192, (1, 2, 3, 4), 3, (32, 16, 8)), 64),
    ],
    ids=["CIFAR-10", "ImageNet32", "ImageNet64"],
)
def test_flow_matching_s_sizes_are_adm_s_layers_and_the_flag(sizes, side):
    network = MultiScaleUNet(*sizes)
    assert count(network, (side, side, 3)) == layers_of_adm(*sizes, side) + 4 * sizes[0]


@NETWORKS
def test_a_fresh_network_answers_with_zeros_and_one_with_weights_does_not(network):
    z, each = jnp.ones(SHAPE), jnp.full(2, 0.3)
    fresh = jax.jit(network.init)(jax.random.key(0), z, each, each, each)
    apply = jax.jit(network.apply)
    assert not np.any(apply(fresh, z, each, each, each))
    assert np.std(apply(random_parameters(network), z, each, each, each)) > 1e-3


@REMAINING
def test_parameters_and_values_are_the_same_for_every_way_of_computing(network):
    parameters = random_parameters(network)
    plain = evaluated(network, parameters)
    other = dataclasses.replace(network, loop=Scanned(), remat=KeepProducts())
    assert shapes_of(other) == shapes_of(network)
    assert largest_error(evaluated(other, parameters), plain) < 3e-5
    half = dataclasses.replace(network, precision=Bfloat16())
    found = evaluated(half, parameters)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    assert 0.0 < largest_error(found[1], plain[1]) < 0.05


@NETWORKS
def test_flops_of_the_forward_pass_are_within_2_percent_of_xla_s_count(network):
    each = jnp.zeros(1)
    lowered = jax.jit(network.apply).lower(
        shapes_of(network), jnp.zeros((1, *SHAPE[1:])), each, each, each
    )
    stated = network.forward_flops(SHAPE[1:])
    counted = lowered.cost_analysis()["flops"]
    assert stated.products + stated.elementwise == pytest.approx(counted, rel=0.02)
    assert stated.recomputed == 0.0


@REMAINING
def test_what_is_computed_again_is_at_most_a_forward_pass_and_less_where_products_are_kept(network):
    inputs, products = (
        dataclasses.replace(network, remat=remat).forward_flops(SHAPE[1:])
        for remat in (KeepInputs(), KeepProducts())
    )
    assert 0.0 <= products.recomputed < inputs.recomputed < inputs.products
    assert inputs.recomputed <= inputs.recomputed_along + 1e-6 * inputs.products


@pytest.mark.parametrize("resampling", [MeanAndNearest(), BinomialFilter()], ids=str)
def test_resampling_keeps_a_constant_and_halves_and_doubles(resampling):
    x = jnp.ones((1, 8, 8, 2))
    assert resampling.down(x).shape == (1, 4, 4, 2)
    assert resampling.up(x).shape == (1, 16, 16, 2)
    for way in (resampling.down, resampling.up):
        assert np.allclose(way(x)[:, 2:-2, 2:-2], 1.0)


@REMAINING
def test_parameters_are_divided_along_fsdp(network):
    mesh = jax.sharding.AbstractMesh((1, 4), ("data", "fsdp"))
    shardings = jax.tree.leaves(Placement(mesh, smallest_sharded=2**8).state(shapes_of(network)))
    large = [s for s in jax.tree.leaves(shapes_of(network)) if s.size >= 2**8]
    assert sum("fsdp" in sharding.spec for sharding in shardings) == len(large)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiScaleUNet(features=33), "features = 33"),
        (lambda: MultiScaleUNet(blocks=0), "blocks = 0"),
        (lambda: MultiScaleUNet(multipliers=()), r"multipliers = \(\) leaves no level"),
        (lambda: MultiScaleUNet(dropout=1.0), "dropout = 1.0"),
        (lambda: shapes_of(MultiScaleUNet(attention_at=(8,), head_width=48)), "head_width = 48"),
        (lambda: shapes_of(MultiScaleUNet(), (1, 6, 8, 3)), "6×8 cannot be halved 3 times"),
        (
            lambda: shapes_of(MultiScaleUNet(multipliers=(1, 2), attention_at=(16, 4, 2))),
            r"attention_at = \(16, 4, 2\) names 16 and 2, .* their heights, 8 or 4, or give \(\)",
        ),
        (lambda: DiT(width=30, heads=3), "width = 30 is not a multiple of 12"),
        (lambda: shapes_of(DiT(patch=3)), "patch = 3 does not divide images of 8×8"),
    ],
)
def test_impossible_networks_are_refused_with_a_remedy(make, words):
    with pytest.raises(UserError, match=words):
        make()
