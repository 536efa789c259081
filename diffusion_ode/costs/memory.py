"""How many bytes a training step needs on each device, by formula.

The state's bytes are exact. Activations are counted as arrays of the size of a block's output,
[b, h, w, C], that are kept from the forward to the backward pass; how many those are was read off
the compiled program of one block (`Kept`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.backend import loops_are_fast, platform
from diffusion_ode.costs.flops import directions, known
from diffusion_ode.diffusion.model import Model
from diffusion_ode.networks.block_loop import ByPlatform, Scanned
from diffusion_ode.networks.rematerialization import KeepAll, KeepInputs, KeepProducts
from diffusion_ode.networks.residual_block import NORM_GROUPS
from diffusion_ode.networks.unet import UNet
from diffusion_ode.training.program import TrainProgram

_FLOAT32 = 4  # bytes of a parameter, and of all that belongs to it


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
_UNROLLED = Kept((3, 5), (1, 1), (2, 0), (6, 7), (2, 4))
# A loop keeps whatever JAX's derivative asks for; of dropout a mask of bytes.
_SCANNED = Kept((6, 8), (0, 0), (1.25, 1), (6, 7), (2, 4))
# A TPU holds the last dimension of an array in lanes of 128, and pads it. Of a scanned network that
# strikes one array of each normalisation, [b, h, w, groups, C / groups], whose images or columns or
# groups lie there; read off two compiled steps of the published size.
_LANES = 128
# Arrays of [b, h, w, C] in use at once while the gradient goes through one block, each direction.
_WORKING = 6.0


@dataclass(frozen=True)
class StepBytes:
    """Bytes on each device at a step's worst moment; they add up to `total`.

    Activations go as gradients come: the moment is mostly that at which the way back begins.

    Attributes:
      parameters, average, moments: this device's share of them.
      batch: the images.
      gathered: the whole of the parameters, where each device holds a share.
      gradients: those that are there then, and where parts of a batch are added up, their sum.
      activations: what is kept then for the gradients to come, and what is in use.
    """

    parameters: int
    average: int
    moments: int
    batch: int
    gathered: int
    gradients: int
    activations: int

    @property
    def state(self) -> int:
        return self.parameters + self.average + self.moments

    @property
    def temporary(self) -> int:
        """All that is there only during a step, but its images."""
        return self.gathered + self.gradients + self.activations

    @property
    def total(self) -> int:
        return self.state + self.batch + self.temporary


def train_step_bytes(program: TrainProgram) -> StepBytes | None:
    """Of one step of a training on its mesh; None if its network is none that can be counted."""
    model, state = program.model, program.abstract_state
    if not known(model.network):
        return None
    images, along = _images_at_once(program), directions(model, program.objective)
    whole = _FLOAT32 * sum(leaf.size for leaf in jax.tree.leaves(state.parameters))
    blocks = [
        _Block(images * kept, _FLOAT32 * parameters)
        for kept, parameters in _kept(model, model.network, along, images)
    ]
    working = images * _working(model, model.network, along, images)
    gathered = whole if program.placement.mesh.shape["fsdp"] > 1 else 0
    summed = whole if program.accumulation > 1 else 0
    kept, made = _worst(blocks, whole)
    return StepBytes(
        parameters=_here(state.parameters),
        average=_here(state.ema),
        moments=_here(state.optimizer),
        batch=_here(program.abstract_batch),
        gathered=gathered,
        gradients=round(summed + made),
        activations=round(kept + working),
    )


def activation_bytes(program: TrainProgram, network: UNet) -> float:
    """On each device, kept and in use, if the program's network were this one."""
    model, images = program.model, _images_at_once(program)
    along = directions(model, program.objective)
    kept = sum(bytes_kept for bytes_kept, _ in _kept(model, network, along, images))
    return images * (kept + _working(model, network, along, images))


def _images_at_once(program: TrainProgram) -> int:
    """That a device keeps activations of."""
    images = program.batch_size // program.placement.mesh.size
    # XLA's CPU backend goes through all parts of a batch side by side.
    return images if platform() == "cpu" else images // program.accumulation


@dataclass(frozen=True)
class _Block:
    """Bytes that a block keeps, and of its gradient."""

    kept: float
    gradient: float


def _worst(blocks: list[_Block], gradients: int) -> tuple[float, float]:
    """What is kept and what gradients there are at once on the way back, where it is most."""
    kept, made = sum(block.kept for block in blocks), 0.0
    moments = [(kept, made)]
    for block in reversed(blocks):
        made += block.gradient
        moments.append((kept, made))
        kept -= block.kept
    moments.append((0.0, float(gradients)))  # all of them, also of what is in no block
    return max(moments, key=sum)


def _kept(model: Model, network: UNet, along: float, images: int) -> Iterator[tuple[float, int]]:
    """Bytes that each block keeps for one image of so many, and the block's parameters."""
    height, width, _ = model.pixels.shape
    features, size = network.features, _itemsize(network)
    unit = height * width * features * size
    scores = (height * width) ** 2 * _FLOAT32  # softmax is in float32 whatever the rest
    table = _SCANNED if _scanned(network) else _UNROLLED
    padding = _padding(width, images) if _scanned(network) and platform() == "tpu" else 0.0
    # XLA's CPU backend does compute again, but early: it keeps the results as if it had not.
    remat = KeepAll() if platform() == "cpu" else network.remat

    def counted(pair: tuple[float, float]) -> float:
        return pair[0] + along * pair[1]

    def block(inputs: int, attention: bool) -> tuple[float, int]:
        parameters = _block_parameters(features, inputs) + attention * 4 * features * (features + 1)
        arrays, squares = inputs * (1.0 + along), 0.0
        if isinstance(remat, KeepInputs):
            return arrays * unit, parameters
        if isinstance(remat, KeepProducts):
            return (arrays + 1 + 4 * attention) * unit, parameters
        arrays += (counted(table.stage) + padding) * (inputs + 1) + counted(table.product)
        if network.dropout:
            arrays += counted(table.dropout)
        if attention:
            arrays += 1 + along + counted(table.attention)
            squares = counted(table.scores)
        return arrays * unit + squares * scores, parameters

    for _ in range(network.blocks):
        yield block(1, network.attention)
    yield block(1, True)
    yield block(1, False)
    for _ in range(network.blocks + 1):
        yield block(2, network.attention)
    yield (1 + along + counted(table.stage)) * unit, 0


def _padding(width: int, images: int) -> float:
    """Of a normalisation's grouped array, in arrays of its own size."""
    if images % _LANES == 0:
        return 0.0
    padded = min(math.ceil(size / _LANES) * _LANES / size for size in (width, NORM_GROUPS))
    return padded - 1.0


def _working(model: Model, network: UNet, along: float, images: int) -> float:
    """Bytes in use at once for one image while the gradient goes through a block."""
    height, width, _ = model.pixels.shape
    unit = height * width * network.features * _itemsize(network)
    again = 0.0
    if not isinstance(network.remat, KeepAll) and platform() != "cpu":
        # The block that is computed again is there with all that it would have kept.
        plain = network.clone(remat=KeepAll())
        again = max(kept for kept, _ in _kept(model, plain, along, images))
    return _WORKING * (1 + along) * unit + again


def _block_parameters(features: int, inputs: int) -> int:
    convolutions = 9 * features * features * (inputs + 1) + 2 * features
    shortcut = features * (features * inputs + 1) if inputs != 1 else 0
    return convolutions + shortcut + 4 * features**2 + 2 * features * (inputs + 1)


def _scanned(network: UNet) -> bool:
    loop = network.loop
    return isinstance(loop, Scanned) or (isinstance(loop, ByPlatform) and loops_are_fast())


def _itemsize(network: UNet) -> int:
    return jnp.dtype(network.precision.dtype or jnp.float32).itemsize


def _here(tree: Any) -> int:
    """Bytes of one device's share."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
