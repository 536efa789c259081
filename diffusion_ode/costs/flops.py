"""How many floating-point operations a training step takes: by formula, or else by XLA's count."""

import dataclasses
import re
from dataclasses import dataclass

import jax

from diffusion_ode.networks.network import StatesFlops
from diffusion_ode.objectives.objective import StatesDirections
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh

_PER_PARAMETER = 25  # Adam's moments and update, weight decay, the average, the gradient's norm
_BFLOAT16_PRODUCT = re.compile(r"(dot_general|convolution).*bf16")


@dataclass(frozen=True)
class StepFlops:
    """One training step on all devices together, in FLOPs.

    Attributes:
      model: the matrix products and convolutions of the forward and backward passes, what a
        utilisation is stated in (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).
      recomputed: products that rematerialisation computes again.
      elementwise: normalisation, swish, softmax, dropout, optimiser, average.
      bfloat16: whether products are of bfloat16.
      forward: passes of the network that `model` is worth; None where XLA has counted: then all
        operations are in `model`, those computed again too, and of every loop one turn.
    """

    model: float
    recomputed: float = 0.0
    elementwise: float = 0.0
    bfloat16: bool = False
    forward: float | None = None

    @property
    def total(self) -> float:
        return self.model + self.recomputed + self.elementwise


def train_step_flops(program: TrainProgram) -> StepFlops:
    """Of one step of a training; counted by XLA unless network and objective state theirs.

    With n directions along which the network is differentiated, an image costs 1 + n passes
    forward and twice as many backward: for the gradient by the inputs and that by the weights.
    """
    model, objective = program.model, program.objective
    if not isinstance(model.network, StatesFlops) or not isinstance(objective, StatesDirections):
        return _counted(program)
    one, along = model.network.forward_flops(model.pixels.shape), objective.directions(model)
    passes, images = 3 * (1 + along), program.batch_size
    state = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.parameters))
    return StepFlops(
        model=passes * images * one.products,
        recomputed=images * (one.recomputed + along * one.recomputed_along),
        elementwise=images * (passes * one.elementwise + one.dropout) + _PER_PARAMETER * state,
        bfloat16=one.bfloat16,
        forward=passes,
    )


def _counted(program: TrainProgram) -> StepFlops:
    """XLA's analysis of the step as it is before compiling, on one device and in one part."""
    one = Mesh(data=1).build(jax.local_devices()[:1])
    alone = dataclasses.replace(program, placement=one, accumulation=1, steps_per_call=1)
    lowered = alone.lower_step()
    halved = _BFLOAT16_PRODUCT.search(lowered.as_text()) is not None
    analysis = lowered.cost_analysis() or {}
    return StepFlops(model=float(analysis["flops"]), bfloat16=halved)
