"""How many floating-point operations a training step takes, by formula.

A product of matrices [n, i] and [i, o] takes 2·n·i·o of them. A 3×3 convolution that keeps an
image's size multiplies only where the filter lies on the image: (3h − 2)(3w − 2) times 2·i·o, and
not 9·h·w times. That is also how XLA counts, except that it counts a loop's body only once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import jax

from diffusion_ode.diffusion.model import Model
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.objective import Objective
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import ExactTraceResidual
from diffusion_ode.training.program import TrainProgram

# Per element that is normalised, each pass: mean and variance, the normalisation, swish, and its
# part in biases and sums. Counted once in XLA's own analysis of a compiled block.
_ELEMENTWISE = 14
# Per element, once a step: the random bits of Threefry, and the comparison and product with them.
_DROPOUT = 60
# Per score of the attention, each pass: scale and softmax.
_SOFTMAX = 6


@dataclass(frozen=True)
class Part:
    """One stage of the network's evaluation of one image, in FLOPs.

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


@dataclass(frozen=True)
class StepFlops:
    """One training step on all devices together, in FLOPs.

    Attributes:
      model: the matrix products and convolutions of the forward and backward passes, what a
        utilisation is stated in (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).
      recomputed: products that rematerialisation computes again.
      elementwise: normalisation, swish, softmax, dropout, optimiser, average.
    """

    model: float
    recomputed: float
    elementwise: float

    @property
    def total(self) -> float:
        return self.model + self.recomputed + self.elementwise


def forward_flops(network: Any, shape: tuple[int, int, int]) -> float | None:
    """Of the products in one evaluation of one image [h, w, c]; None for an unknown network."""
    return sum(part.products for part in parts(network, shape)) if known(network) else None


def train_step_flops(program: TrainProgram) -> StepFlops | None:
    """Of one step of a training; None if its network is none that can be counted.

    With n directions along which the network is differentiated, an image costs 1 + n passes
    forward and twice as many backward: for the gradient by the inputs and that by the weights.
    """
    network = program.model.network
    if not known(network):
        return None
    passes = 1 + directions(program.model, program.objective)
    images = program.batch_size
    products = elementwise = recomputed = 0.0
    for part in parts(network, program.model.pixels.shape):
        products += part.products
        elementwise += 3 * passes * part.elementwise + _DROPOUT * part.dropped
        if isinstance(network.remat, KeepInputs):
            recomputed += passes * part.again
        if isinstance(network.remat, KeepProducts):
            # Only the products at the point itself are marked, not those along the directions.
            recomputed += part.again_between + (passes - 1) * part.again
    state = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.parameters))
    return StepFlops(
        model=3 * passes * images * products,
        recomputed=images * recomputed,
        elementwise=images * elementwise + _PER_PARAMETER * state,
    )


_PER_PARAMETER = 25  # Adam's moments and update, weight decay, the average, the gradient's norm


def known(network: Any) -> TypeGuard[UNet]:
    """Whether the formulas are those of this network."""
    return isinstance(network, UNet)


def directions(model: Model, objective: Objective) -> float:
    """Along how many directions an objective differentiates the network, per image on average."""
    if not isinstance(objective, SecondOrderFlowMatching):
        return 0.0
    residual, shape = objective.residual, (1, *model.pixels.shape)
    if isinstance(residual, ExactTraceResidual):
        number = model.pixels.dimensions
    else:
        key = jax.random.key(0)
        number = len(jax.eval_shape(lambda key: residual.draw_probes(key, shape), key))
    return number / objective.every


def parts(network: UNet, shape: tuple[int, int, int]) -> Iterator[Part]:
    """The stages of a U-Net's evaluation of one image, as they come."""
    height, width, channels = shape
    positions, features = height * width, network.features
    inputs = channels * (1 + 2 * len(network.fourier_exponents))
    yield Part(_dense(1, features + 1, 4 * features) + _dense(1, 4 * features, 4 * features))
    yield Part(_convolution(shape, inputs, features), 10.0 * positions * inputs)
    down, up = _block(network, shape, features), _block(network, shape, 2 * features)
    attention = _attention(features, positions)
    after = [attention] if network.attention else []
    for _ in range(network.blocks):
        yield from _followed(down, after)
    yield from _followed(down, [attention])
    yield down
    for _ in range(network.blocks + 1):
        yield from _followed(up, after)
    yield Part(_convolution(shape, features, channels), _ELEMENTWISE * positions * features)


def _block(network: UNet, shape: tuple[int, int, int], inputs: int) -> Part:
    positions, features = shape[0] * shape[1], network.features
    first = _convolution(shape, inputs, features) + _dense(1, 4 * features, features)
    second = _convolution(shape, features, features)
    shortcut = _dense(positions, inputs, features) if inputs != features else 0.0
    return Part(
        products=first + second + shortcut,
        elementwise=_ELEMENTWISE * positions * (inputs + features),
        dropped=positions * features if network.dropout else 0.0,
        again=first,  # nothing in a gradient needs what the last convolution gave
    )


def _attention(features: int, positions: int) -> Part:
    projection = _dense(positions, features, features)
    scores = _dense(positions, features, positions)
    return Part(
        products=4 * projection + 2 * scores,
        elementwise=_ELEMENTWISE * positions * features + _SOFTMAX * positions**2,
        again=3 * projection + 2 * scores,
        again_between=scores,
    )


def _followed(block: Part, after: list[Part]) -> Iterator[Part]:
    """A block; where attention follows, the block's last product is needed for it again."""
    if after:
        rest = block.products - block.again
        block = Part(block.products, block.elementwise, block.dropped, block.products, rest)
    yield block
    yield from after


def _convolution(shape: tuple[int, int, int], inputs: int, outputs: int) -> float:
    """3×3, of the image's size."""
    height, width, _ = shape
    return 2.0 * inputs * outputs * (3 * height - 2) * (3 * width - 2)


def _dense(rows: int, inputs: int, outputs: int) -> float:
    return 2.0 * rows * inputs * outputs
