"""Beginning a run where another one left off."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.errors import UserError
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.state import TrainState


@dataclass(frozen=True)
class WarmStart:
    """What a new run takes over from a checkpoint of another one.

    Fine-tuning is no mode of its own: it is this, and another objective.

    Args:
      source: `WORKDIR` or `WORKDIR@STEP`; None starts fresh. The launcher's --init_from comes first.
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
        if not (self.parameters or self.ema):
            raise UserError(
                "A warm start without parameters and ema takes nothing over: set one of"
                " train.warm_start.parameters and train.warm_start.ema to True."
            )

    def begin(self, program: TrainProgram, source: str) -> TrainState:
        """The first state of a run that goes on from `source`.

        Raises:
          UserError: there is no such checkpoint, or it does not fit.
        """
        workdir, step = _parsed(source)
        fields = [name for name in ("parameters", "ema", "optimizer", "step") if self._takes(name)]
        wanted = {name: getattr(program.abstract_state, name) for name in fields}
        folder = workdir / "checkpoints"
        if not folder.is_dir():
            raise UserError(
                f"{workdir} holds no checkpoints to start from: train there first, or name another"
                " folder by --init_from=WORKDIR[@STEP]."
            )
        with Checkpoints(folder, read_only=True) as checkpoints:
            taken: dict[str, Any] = checkpoints.restore_parameters(wanted, step).state
        if "parameters" not in taken:
            taken["parameters"] = _copies(taken["ema"])
        if "ema" not in taken:
            taken["ema"] = _copies(taken["parameters"])
        if "step" in taken:
            taken["first_step"] = jnp.copy(taken["step"])
        return program.fresh_state().replace(**taken)

    def _takes(self, name: str) -> bool:
        return bool(getattr(self, name))


def _copies(tree: Any) -> Any:
    """New buffers: a step donates every array of its state, and none may be donated twice."""
    return jax.tree.map(jnp.copy, tree)


def _parsed(source: str) -> tuple[Path, int | None]:
    """`WORKDIR[@STEP]` → (workdir, step)."""
    workdir, at, step = source.rpartition("@")
    if not at:
        return Path(source).expanduser(), None
    if not step.isdigit():
        raise UserError(
            f"--init_from={source} does not end in a step: write WORKDIR@STEP with a whole number,"
            " or WORKDIR alone for its newest checkpoint."
        )
    return Path(workdir).expanduser(), int(step)
