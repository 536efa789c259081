"""The model that a workdir holds, for the tasks that judge it or draw from it."""

from dataclasses import dataclass
from typing import Any

import jax

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.run import Run
from diffusion_ode.training.sharding import Placement
from diffusion_ode.typing import Parameters


@dataclass(frozen=True)
class Trained:
    """Averaged parameters of one checkpoint.

    Attributes:
      parameters: the exponential average, on every device.
      step: of the checkpoint.
      facts: that were saved with it, among them `digest` and `data_fingerprint`.
      placement: the mesh they lie on.
    """

    parameters: Parameters
    step: int
    facts: dict[str, Any]
    placement: Placement

    def lanes_sharding(self, lanes: int) -> jax.sharding.Sharding | None:
        """Lanes over all devices; None on a single one.

        Raises:
          UserError: the devices do not divide the lanes.
        """
        devices = self.placement.mesh.size
        if lanes % devices:
            raise UserError(
                f"lanes = {lanes} is not a multiple of the {devices} devices: choose a multiple."
            )
        return self.placement.batch if devices > 1 else None


def trained(run: Run, report) -> Trained:
    """The checkpoint that the run asks for: a step, "best", or the newest.

    Raises:
      UserError: there is none, or it does not fit the experiment.
    """
    placement = run.experiment.mesh.build()
    shapes = jax.eval_shape(run.experiment.model.init, jax.random.key(0))
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement.replicated),
        shapes,
    )
    folder = run.workdir / "checkpoints"
    if not folder.is_dir():
        raise UserError(
            f"{run.workdir} holds no checkpoint: train first with"
            f" `{run.next_command()}`, or name another --workdir."
        )
    with Checkpoints(folder, best_by="bpd", report=report, read_only=True) as checkpoints:
        restored = checkpoints.restore_parameters({"ema": abstract}, _step(run.checkpoint))
    return Trained(restored.state["ema"], restored.step, restored.facts, placement)


def _step(checkpoint: str | None):
    if checkpoint is None or checkpoint == "best":
        return checkpoint
    if not checkpoint.isdigit():
        raise UserError(
            f"--checkpoint={checkpoint} is neither a step nor `best`: give a whole number, or leave"
            " it out for the newest."
        )
    return int(checkpoint)
