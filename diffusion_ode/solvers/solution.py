"""What a solve gives."""

from dataclasses import dataclass

import jax
import numpy as np

from diffusion_ode.solvers.lane_state import LaneState, Outcome


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Solution:
    """One problem's result, or with a leading axis those of a batch.

    A problem that has not converged keeps the z and ell that it had reached: they are not its
    solution, and `outcome` says why.

    Attributes:
      index: the item's index; in a batch, its position.
      z: state at the end of the span. [*shape]
      ell: integral of dell/ds plus its start, nats.
      nfe: evaluations of the vector field.
      accepted: accepted steps.
      rejected: rejected steps.
      outcome: an Outcome.
    """

    index: int | np.ndarray | jax.Array
    z: np.ndarray | jax.Array
    ell: float | np.ndarray | jax.Array
    nfe: int | np.ndarray | jax.Array
    accepted: int | np.ndarray | jax.Array
    rejected: int | np.ndarray | jax.Array
    outcome: int | np.ndarray | jax.Array

    @property
    def converged(self) -> bool | np.ndarray | jax.Array:
        """Whether the end was reached within the tolerances."""
        return self.outcome == Outcome.CONVERGED


def of_lanes(state: LaneState, index: jax.Array | np.ndarray) -> Solution:
    """All lanes' results as one batch."""
    return Solution(
        index=index,
        z=state.z,
        ell=state.ell,
        nfe=state.nfe,
        accepted=state.accepted,
        rejected=state.rejected,
        outcome=state.outcome,
    )
