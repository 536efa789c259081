"""What a network is to the rest of the program: what it must be, and what it may say of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from diffusion_ode.typing import Images, PerImage


@runtime_checkable
class Network(Protocol):
    """A Flax Linen module from (z [b,h,w,c], time [b], flag [b], sigma [b]) to [b,h,w,c].

    It knows nothing of schedules: time runs over [0, 1], and σ is that of the noise in z. It takes
    all of them, and need not use any but z; if it has dropout, `deterministic` switches it off.

    This is all that it must be. It may state more: its costs (`StatesFlops`, `StatesActivations`),
    why published parameters do not fit it (`ReadsPublished`), and which of its fields a checkpoint
    does not depend on (`diffusion_ode.computation`).
    """

    def init(self, *args: Any, **kwargs: Any) -> Any: ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...

    def __call__(
        self,
        z: Images,
        time: PerImage,
        flag: PerImage,
        sigma: PerImage,
        *,
        deterministic: bool = True,
    ) -> Images: ...


@dataclass(frozen=True)
class ForwardFlops:
    """One evaluation of one image, in FLOPs.

    Attributes:
      products: of its matrix products and convolutions.
      elementwise: of everything else, in each pass.
      dropout: of dropout's random bits, once a step.
      recomputed: products that are computed again for the gradient.
      recomputed_along: the same for each direction that the network is differentiated along.
      bfloat16: whether products are of bfloat16, for which devices have other peaks.
    """

    products: float
    elementwise: float = 0.0
    dropout: float = 0.0
    recomputed: float = 0.0
    recomputed_along: float = 0.0
    bfloat16: bool = False


@runtime_checkable
class StatesFlops(Protocol):
    """A network that states its FLOPs; of others XLA counts them."""

    def forward_flops(self, shape: tuple[int, int, int]) -> ForwardFlops:
        """Of one image [h, w, c]."""
        ...


@dataclass(frozen=True)
class Stage:
    """Part of a network whose activations go, on the way back, when its gradient has come.

    Attributes:
      kept: bytes that it keeps of one image.
      parameters: how many it has.
    """

    kept: float
    parameters: int


@dataclass(frozen=True)
class Activations:
    """Bytes of one image on the device that goes through it.

    Attributes:
      stages: in the order of the evaluation.
      working: in use at once while the gradient goes through a stage.
      everything: kept and working if nothing were computed again and no loop kept more; what a
        step reads and writes is proportional to it.
    """

    stages: tuple[Stage, ...]
    working: float
    everything: float

    @property
    def total(self) -> float:
        """Kept and in use."""
        return sum(stage.kept for stage in self.stages) + self.working


@runtime_checkable
class StatesActivations(Protocol):
    """A network that states its activations; of others JAX's derivative tells what it keeps."""

    def activations(
        self, shape: tuple[int, int, int], *, directions: float, images: int
    ) -> Activations:
        """Of an image [h, w, c] among so many that a device goes through at once.

        Args:
          shape: the image's.
          directions: along which the network is differentiated, on average.
          images: how many there are on the device at once.
        """
        ...


@runtime_checkable
class ReadsPublished(Protocol):
    """A network of which there are published checkpoints."""

    def remedy(self, parameters: Mapping[str, Any], channels: int) -> str:
        """What to do about published parameters that do not fit: the end of a sentence.

        Args:
          parameters: arrays, nested by name.
          channels: of the model's images.
        """
        ...
