"""Images from noise."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.integration_variable import IntegrationVariable, NaturalVariable
from diffusion_ode.diffusion.model import Model, imagined
from diffusion_ode.errors import UserError
from diffusion_ode.inference.decoding import Decoder, NearestLevel
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.ranges import Count
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.lanes import Item, solve_lanes, trace_lanes
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import StepController
from diffusion_ode.typing import Key, Parameters


def sampling_controller() -> PIController:
    """Steps that spoil no picture: on the digits 38 evaluations, z within 0.005 of its limit.

    Dormand–Prince 5 needs 126 for that (rtol = atol = 1e-4); a level is 0.12 wide.
    """
    return PIController(rtol=3e-3, atol=3e-3, factor_max=2.0)


class Sample(NamedTuple):
    """One drawn image: levels [h, w, c], and how the network was asked for it."""

    index: int
    image: np.ndarray
    nfe: int
    converged: bool


@runtime_checkable
class Sampler(Protocol):
    """Draws images by number: image i of a key is the same however many are drawn, and where."""

    @property
    def lanes(self) -> int:
        """Images under way at a time."""
        ...

    def draw(
        self,
        model: Model,
        parameters: Parameters,
        indices: Iterable[int],
        key: Key,
        sharding: jax.sharding.Sharding | None = None,
    ) -> Iterator[Sample]:
        """Yields images as they are finished, in no fixed order."""
        ...


@runtime_checkable
class ChecksModel(Protocol):
    """A sampler that can tell before a training what it would not draw of its model."""

    def check(self, model: Model) -> None:
        """Compiles nothing."""
        ...


def check_drawn(images: jax.ShapeDtypeStruct, model: Model) -> None:
    """Refuses a decoder whose images [b, h, w, c] are none of the model's."""
    if images.shape[1:] != tuple(model.pixels.shape):
        raise UserError(
            f"The decoder makes images of shape {list(images.shape[1:])}, where the model's have"
            f" {list(model.pixels.shape)}: it must give levels [b, h, w, c] of z [b, h, w, c]."
        )


@dataclass(frozen=True)
class OdeSampler:
    """From the prior along the probability-flow ODE from γ1 to γ0, then the decoder.

    Args:
      solver, controller: of the ODE.
      variable: along which it is solved.
      decoder: from z at γ0 to levels.
      lanes: images under way at a time.

    Source: Song et al. 2020, arXiv:2011.13456, section 4.3.
    """

    solver: Solver = field(default_factory=Adams)
    controller: StepController = field(default_factory=sampling_controller)
    variable: IntegrationVariable = field(default_factory=NaturalVariable)
    decoder: Decoder = field(default_factory=NearestLevel)
    lanes: Count = 64

    def __post_init__(self):
        check_fields(self)
        self.controller.check(self.solver, np.dtype(np.float64))

    def check(self, model: Model) -> None:
        """Traces a start, an evaluation and the decoder: what they raise is raised now."""
        model, parameters = imagined(model)
        key = jax.eval_shape(jax.random.key, 0)
        z = jax.eval_shape(functools.partial(_noise, model), key, 0)
        trace_lanes(
            ProbabilityFlow(model, self.variable),
            parameters,
            z,
            lanes=self.lanes,
            solver=self.solver,
            controller=self.controller,
        )
        image = jax.eval_shape(functools.partial(_decoded, self.decoder, model), z, key, 0)
        check_drawn(jax.ShapeDtypeStruct((1, *image.shape), image.dtype), model)

    def draw(self, model, parameters, indices, key, sharding=None):
        flow = ProbabilityFlow(model, self.variable)
        first, last = flow.span
        items = (Item(index, np.asarray(_noise(model, key, index))) for index in indices)
        solutions = solve_lanes(
            flow,
            parameters,
            items,
            lanes=self.lanes,
            solver=self.solver,
            controller=self.controller,
            span=(last, first),
            sharding=sharding,
        )
        for solution in solutions:
            index = int(solution.index)
            image = _decoded(self.decoder, model, jnp.asarray(solution.z), key, index)
            yield Sample(index, np.asarray(image), int(solution.nfe), bool(solution.converged))


@functools.partial(jax.jit, static_argnums=0)
def _noise(model: Model, key: Key, index):
    """The start z1 of one image."""
    noise_key, _ = jax.random.split(jax.random.fold_in(key, index))
    return model.prior_draw(jax.random.normal(noise_key, model.pixels.shape))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decoded(decoder: Decoder, model: Model, z, key: Key, index):
    _, decoder_key = jax.random.split(jax.random.fold_in(key, index))
    return decoder(model, z[None], decoder_key)[0]


def drawn_in_order(samples: Iterable[Sample]) -> list[Sample]:
    """All samples, by their number."""
    return sorted(samples, key=lambda sample: sample.index)
