"""A model with the parameters of a checkpoint, for whoever judges it or draws from it."""

from dataclasses import dataclass, field
from typing import Any

import jax

from diffusion_ode.diffusion.model import Model
from diffusion_ode.errors import UserError
from diffusion_ode.training.sharding import Placement
from diffusion_ode.typing import Parameters


@dataclass(frozen=True)
class LoadedModel:
    """A model and the averaged parameters of one checkpoint.

    Attributes:
      model: what it is made of.
      parameters: the exponential average, on every device of this process.
      step: of the checkpoint.
      facts: that were saved with it, among them `digest` and `data_fingerprint`.
      document: of the experiment that it was trained in; empty if it came without.
      placement: the mesh they lie on.
    """

    model: Model
    parameters: Parameters
    step: int
    facts: dict[str, Any]
    placement: Placement
    document: dict[str, Any] = field(default_factory=dict)

    def lanes_sharding(self, lanes: int) -> jax.sharding.Sharding | None:
        """Lanes over all devices of this process; None on a single one.

        Raises:
          UserError: the devices do not divide the lanes.
        """
        devices = self.placement.mesh.size
        if lanes % devices:
            raise UserError(
                f"lanes = {lanes} is not a multiple of the {devices} devices: choose a multiple."
            )
        return self.placement.batch if devices > 1 else None
