"""What a training step minimises."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.time_sampling import TimeSampler
from diffusion_ode.diffusion.weighting import Weighting
from diffusion_ode.typing import Array, Images, Key, Levels, Parameters, PerImage


class Integrand(NamedTuple):
    """What a time sampler learns from: the integrand at γ, nats per unit of γ.

    Attributes:
      gamma: γ.
      value: of the bound's diffusion term.
      weight: what the loss weights it with; None for 1.
    """

    gamma: PerImage
    value: PerImage
    weight: PerImage | None = None


class LossTerms(NamedTuple):
    """What came of each image.

    Attributes:
      loss: in nats; its mean is minimised.
      parts: in nats, by name; those that are worth watching, with images as their first axis.
      integrand: for samplers that learn; None teaches them nothing.
      bound: in nats, what estimates the bound's diffusion term where the loss does not; it is
        shown in the loss's place.
    """

    loss: PerImage
    parts: Mapping[str, Array]
    integrand: Integrand | None = None
    bound: PerImage | None = None


@runtime_checkable
class Objective(Protocol):
    """A loss per image, with its random numbers drawn apart from it.

    `draw` makes everything random for the *global* batch (all but dropout), every array with the
    batch as its first axis; `loss` is then a pure function of a batch or of any part of it. So
    the numbers do not depend on how a batch is divided, and a recorded draw can be replayed.
    """

    @property
    def times(self) -> TimeSampler: ...

    def draw(self, model: Model, images: Levels, key: Key, times_state: Any) -> Any:
        """Everything random, for images [b, h, w, c] and the state of `times`."""
        ...

    def loss(
        self,
        model: Model,
        parameters: Parameters,
        images: Levels,
        flag: PerImage,
        draws: Any,
        dropout_key: Key | None,
    ) -> LossTerms: ...


@runtime_checkable
class StatesDirections(Protocol):
    """An objective that states what a step costs beside a plain one; else XLA counts the step."""

    def directions(self, model: Model) -> float:
        """Along how many directions the network is differentiated, per image on average."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """An objective that states its weighting: under any but w = 1 its loss is no bound."""

    @property
    def weighting(self) -> Weighting: ...


class Draws(NamedTuple):
    """What flow matching needs of chance; `end_noise` where the ends of the path are learned."""

    gamma: PerImage
    density: PerImage
    noise: Images
    probes: tuple[Images, ...]
    end_noise: Images | None = None
