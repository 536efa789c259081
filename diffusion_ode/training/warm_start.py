"""Beginning a run where another one left off."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.checking import check_fields
from diffusion_ode.checkpoints.stored import Restored
from diffusion_ode.errors import UserError
from diffusion_ode.training.optimizer import schedules_begun_anew
from diffusion_ode.training.origins import parse_origin
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.state import TrainState


@dataclass(frozen=True)
class WarmStart:
    """What a new run takes over from a checkpoint of another one.

    Fine-tuning is no mode of its own: it is this, and another objective.

    Args:
      source: `WORKDIR`, `WORKDIR@STEP`, or `reference:PATH` of a published file; None starts fresh.
        The launcher's --init_from comes first.
      parameters, ema, optimizer, step: what is taken over. Without ema the average begins at the
        parameters; without step the count begins at 0, and the learning rate warms up again.

    Source: Zheng et al. 2023, arXiv:2305.03935, appendix H: all four are kept.
    """

    source: str | None = None
    parameters: bool = True
    ema: bool = True
    optimizer: bool = True
    step: bool = True

    def __post_init__(self):
        check_fields(self)
        if not (self.parameters or self.ema):
            raise UserError(
                "A warm start without parameters and ema takes nothing over: set one of"
                " train.warm_start.parameters and train.warm_start.ema to True."
            )

    def begin(self, program: TrainProgram, source: str) -> TrainState:
        """The first state of a run that goes on from `source`, whatever that was trained on.

        Raises:
          UserError: there is no such checkpoint, or it does not fit.
        """
        return self.state(program, self.restore(program, source))

    def restore(self, program: TrainProgram, source: str) -> Restored:
        """What is taken over, with the facts about the checkpoint.

        Raises:
          UserError: there is no such checkpoint, or it does not fit.
        """
        fields = [name for name in ("parameters", "ema", "optimizer", "step") if self._takes(name)]
        wanted = {name: getattr(program.abstract_state, name) for name in fields}
        return parse_origin(source).restore(program.model, wanted)

    def state(self, program: TrainProgram, restored: Restored) -> TrainState:
        """The first state with what `restore` gave, whose arrays it holds."""
        taken: dict[str, Any] = dict(restored.state)
        if "parameters" not in taken:
            taken["parameters"] = _copies(taken["ema"])
        if "ema" not in taken:
            taken["ema"] = _copies(taken["parameters"])
        if "optimizer" in taken:
            taken["optimizer"] = schedules_begun_anew(taken["optimizer"])
        if "step" in taken:
            taken["first_step"] = jnp.copy(taken["step"])
        missing = [f.name for f in dataclasses.fields(TrainState) if f.name not in taken]
        return TrainState(**taken, **program.fresh_fields(missing))

    def _takes(self, name: str) -> bool:
        return bool(getattr(self, name))


def _copies(tree: Any) -> Any:
    """New buffers: a step donates every array of its state, and none may be donated twice."""
    return jax.tree.map(jnp.copy, tree)
