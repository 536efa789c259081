"""What a U-Net costs, by formula.

A product of matrices [n, i] and [i, o] takes 2·n·i·o FLOPs. A 3×3 convolution that keeps an image's
size multiplies only where the filter lies on the image: (3h − 2)(3w − 2) times 2·i·o, and not
9·h·w times. That is also how XLA counts, except that it counts a loop's body only once.

Activations are counted as arrays of the size of a block's output, [b, h, w, C], that are kept from
the forward to the backward pass; how many those are was read off the compiled program of one block
(`Kept`).
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp

from diffusion_ode.backend import loops_are_fast, platform
from diffusion_ode.networks.block_loop import ByPlatform, Scanned, Unrolled
from diffusion_ode.networks.network import Activations, ForwardFlops, Stage
from diffusion_ode.networks.rematerialization import KeepAll, KeepInputs, KeepProducts
from diffusion_ode.networks.residual_block import NORM_GROUPS

if TYPE_CHECKING:
    from diffusion_ode.networks.unet import UNet

# Per element that is normalised, each pass: mean and variance, the normalisation, swish, and its
# part in biases and sums. Counted once in XLA's own analysis of a compiled block.
_ELEMENTWISE = 14
# Per element, once a step: the random bits of Threefry, and the comparison and product with them.
_DROPOUT = 60
# Per score of the attention, each pass: the exponential of a difference, and its sums.
_SOFTMAX = 6


@dataclass(frozen=True)
class _Part:
    """One stage of the evaluation of one image, in FLOPs.

    Attributes:
      products: of its matrix products and convolutions.
      elementwise: of everything else but dropout.
      dropped: elements that dropout sees.
      again: of `products`, what is computed a second time for the gradient where only the
        stage's input is kept.
      again_between: the same where the products that are marked for it are kept.
    """

    products: float
    elementwise: float = 0.0
    dropped: float = 0.0
    again: float = 0.0
    again_between: float = 0.0


def forward_flops(network: "UNet", shape: tuple[int, int, int]) -> ForwardFlops:
    """Of one evaluation of one image [h, w, c]."""
    parts = list(_parts(network, shape))

    def total(name: str) -> float:
        return sum(getattr(part, name) for part in parts)

    again = again_along = 0.0
    if isinstance(network.remat, KeepInputs):
        again = again_along = total("again")
    if isinstance(network.remat, KeepProducts):
        # Only the products at the point itself are marked, not those along the directions.
        again, again_along = total("again_between"), total("again")
    return ForwardFlops(
        products=total("products"),
        elementwise=total("elementwise"),
        dropout=_DROPOUT * total("dropped"),
        recomputed=again,
        recomputed_along=again_along,
        bfloat16=network.precision.dtype == jnp.bfloat16,
    )


def _parts(network: "UNet", shape: tuple[int, int, int]) -> Iterator[_Part]:
    """The stages, as they come."""
    height, width, channels = shape
    positions, features = height * width, network.features
    inputs = channels * (1 + 2 * len(network.fourier_exponents))
    yield _Part(_dense(1, features + 1, 4 * features) + _dense(1, 4 * features, 4 * features))
    yield _Part(_convolution(shape, inputs, features), 10.0 * positions * inputs)
    down, up = _block(network, shape, features), _block(network, shape, 2 * features)
    attention = _attention(features, positions)
    after = [attention] if network.attention else []
    for _ in range(network.blocks):
        yield from _followed(down, after)
    yield from _followed(down, [attention])
    yield down
    for _ in range(network.blocks + 1):
        yield from _followed(up, after)
    yield _Part(_convolution(shape, features, channels), _ELEMENTWISE * positions * features)


def _block(network: "UNet", shape: tuple[int, int, int], inputs: int) -> _Part:
    positions, features = shape[0] * shape[1], network.features
    first = _convolution(shape, inputs, features) + _dense(1, 4 * features, features)
    second = _convolution(shape, features, features)
    shortcut = _dense(positions, inputs, features) if inputs != features else 0.0
    return _Part(
        products=first + second + shortcut,
        elementwise=_ELEMENTWISE * positions * (inputs + features),
        dropped=positions * features if network.dropout else 0.0,
        again=first,  # nothing in a gradient needs what the last convolution gave
    )


def _attention(features: int, positions: int) -> _Part:
    projection = _dense(positions, features, features)
    scores = _dense(positions, features, positions)
    return _Part(
        products=4 * projection + 2 * scores,
        elementwise=_ELEMENTWISE * positions * features + _SOFTMAX * positions**2,
        again=3 * projection + 2 * scores,
        again_between=scores,
    )


def _followed(block: _Part, after: list[_Part]) -> Iterator[_Part]:
    """A block; where attention follows, the block's last product is needed for it again."""
    if after:
        rest = block.products - block.again
        block = dataclasses.replace(block, again=block.products, again_between=rest)
    yield block
    yield from after


def _convolution(shape: tuple[int, int, int], inputs: int, outputs: int) -> float:
    """A convolution of 3×3, of the image's size."""
    height, width, _ = shape
    return 2.0 * inputs * outputs * (3 * height - 2) * (3 * width - 2)


def _dense(rows: int, inputs: int, outputs: int) -> float:
    return 2.0 * rows * inputs * outputs


@dataclass(frozen=True)
class Kept:
    """Arrays kept for the gradient, per array of their size; each for one direction more, too.

    Attributes:
      stage: of a normalisation, its swish and the product's input after it.
      product: of a block's first convolution.
      dropout: of a block's dropout.
      attention: of an attention's arrays of the image's size.
      scores: of its scores, [positions, positions].
    """

    stage: tuple[float, float]
    product: tuple[float, float]
    dropout: tuple[float, float]
    attention: tuple[float, float]
    scores: tuple[float, float]


# Block by block XLA makes some again inside of other operations; its CPU backend keeps both halves
# of dropout's random bits.
_UNROLLED = Kept((3, 5), (1, 1), (2, 0), (6, 7), (1, 2))
# A loop keeps whatever JAX's derivative asks for; of dropout a mask of bytes.
_SCANNED = Kept((6, 8), (0, 0), (1.25, 1), (6, 7), (1, 2))
# A TPU holds the last dimension of an array in lanes of 128, and pads it. Of a scanned network that
# strikes one array of each normalisation, [b, h, w, groups, C / groups], whose images or columns or
# groups lie there; read off two compiled steps of the published size.
_LANES = 128
# Arrays of [b, h, w, C] in use at once while the gradient goes through one block, each direction.
_WORKING = 6.0
_FLOAT32 = 4  # bytes


def activations(
    network: "UNet", shape: tuple[int, int, int], directions: float, images: int
) -> Activations:
    """Of one image among so many on a device; see `StatesActivations`."""
    stages = tuple(_stages(network, shape, directions, images))
    # XLA's CPU backend does compute again, but early: it keeps the results as if it had not.
    again = not isinstance(network.remat, KeepAll) and platform() != "cpu"
    unit = shape[0] * shape[1] * network.features * _itemsize(network)
    working = _WORKING * (1 + directions) * unit
    plain = network.clone(remat=KeepAll(), loop=Unrolled())
    everything = working + sum(s.kept for s in _stages(plain, shape, directions, images))
    if again:  # the block that is computed again is there with all that it would have kept
        plain = network.clone(remat=KeepAll())
        working += max(stage.kept for stage in _stages(plain, shape, directions, images))
    return Activations(stages, working, everything)


def _stages(
    network: "UNet", shape: tuple[int, int, int], along: float, images: int
) -> Iterator[Stage]:
    """Each block."""
    height, width, _ = shape
    features, size = network.features, _itemsize(network)
    unit = height * width * features * size
    scores = (height * width) ** 2 * _FLOAT32  # softmax is in float32 whatever the rest
    table = _SCANNED if _scanned(network) else _UNROLLED
    padding = _padding(width, images) if _scanned(network) and platform() == "tpu" else 0.0
    remat = KeepAll() if platform() == "cpu" else network.remat  # as above

    def counted(pair: tuple[float, float]) -> float:
        return pair[0] + along * pair[1]

    def block(inputs: int, attention: bool) -> Stage:
        parameters = _block_parameters(features, inputs) + attention * 4 * features * (features + 1)
        arrays, squares = inputs * (1.0 + along), 0.0
        if isinstance(remat, KeepInputs):
            return Stage(arrays * unit, parameters)
        if isinstance(remat, KeepProducts):
            return Stage((arrays + 1 + 4 * attention) * unit, parameters)
        arrays += (counted(table.stage) + padding) * (inputs + 1) + counted(table.product)
        if network.dropout:
            arrays += counted(table.dropout)
        if attention:
            arrays += 1 + along + counted(table.attention)
            squares = counted(table.scores)
        return Stage(arrays * unit + squares * scores, parameters)

    for _ in range(network.blocks):
        yield block(1, network.attention)
    yield block(1, True)
    yield block(1, False)
    for _ in range(network.blocks + 1):
        yield block(2, network.attention)
    yield Stage((1 + along + counted(table.stage)) * unit, 0)


def _padding(width: int, images: int) -> float:
    """Of a normalisation's grouped array, in arrays of its own size."""
    if images % _LANES == 0:
        return 0.0
    padded = min(math.ceil(size / _LANES) * _LANES / size for size in (width, NORM_GROUPS))
    return padded - 1.0


def _block_parameters(features: int, inputs: int) -> int:
    convolutions = 9 * features * features * (inputs + 1) + 2 * features
    shortcut = features * (features * inputs + 1) if inputs != 1 else 0
    return convolutions + shortcut + 4 * features**2 + 2 * features * (inputs + 1)


def _scanned(network: "UNet") -> bool:
    loop = network.loop
    return isinstance(loop, Scanned) or (isinstance(loop, ByPlatform) and loops_are_fast())


def _itemsize(network: "UNet") -> int:
    return jnp.dtype(network.precision.dtype or jnp.float32).itemsize
