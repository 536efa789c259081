"""Adams' multistep method, predicting and correcting, at one evaluation a step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diffusion_ode.errors import UserError
from diffusion_ode.solvers.arrays import Count, PerLane, Weights

# With more slopes the rounding and the roughness of a network's slopes are amplified, and variable
# steps soon are not zero-stable any more.
_MOST_SLOPES = 5


@dataclass(frozen=True)
class Adams:
    """Adams–Bashforth predictor, Adams–Moulton corrector, variable steps; PEC mode.

    With the times s_n, s_{n−1}, … reached so far, h = s_{n+1} − s_n and k = order:
      z* = z_n + ∫ p, p the polynomial through the slopes at s_n … s_{n−k+1},
      evaluate dz/ds and dell/ds at (s_{n+1}, z*),
      z_{n+1} = z_n + ∫ q, q the polynomial through these slopes and the new one, of order k + 1,
      error = z_{n+1} − z*, of size h^(k + 1).
    One evaluation a step, at evenly spread times: where dell/ds is rough on the scale of a step it
    is this that decides. For equal steps the sum over the steps is the trapezoidal rule with
    corrections at its ends, which all but ignores oscillations that it resolves; the unequal
    weights of a high-order Runge–Kutta method amplify them (Dormand–Prince 5 has Σ b² = 0.75 on
    six evaluations; equal weights would have 0.17). ell is corrected at order k.

    The first steps use as many slopes as there are.

    Hairer, Nørsett and Wanner, Solving ODEs I, sections III.1 and III.5.

    Attributes:
      order: k, of the predictor.
    """

    order: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.order <= _MOST_SLOPES:
            raise UserError(
                f"order is {self.order}, but Adams takes 1 to {_MOST_SLOPES}: give 3 or 4."
            )

    @property
    def name(self) -> str:
        return f"Adams {self.order}"


def integration_weights(nodes: Weights, used: Count) -> Weights:
    """w [lanes, k] with ∫_0^1 p = Σ w_j p(x_j) for the polynomial through the first `used` nodes.

    Args:
      nodes: x, times in units of the step, from its start. [lanes, k]
      used: at least 1; the weights of later nodes are zero. [lanes]
    """
    columns = [nodes[:, j] for j in range(nodes.shape[1])]
    weights = jnp.zeros_like(nodes)
    for count in range(1, len(columns) + 1):
        some = jnp.stack(_lagrange_integrals(columns[:count]), axis=1)
        padded = jnp.pad(some, ((0, 0), (0, len(columns) - count)))
        weights = jnp.where((used == count)[:, None], padded, weights)
    return weights


def _lagrange_integrals(nodes: list[PerLane]) -> list[PerLane]:
    """The integrals over [0, 1] of the Lagrange polynomials of the nodes."""
    integrals = []
    for own in nodes:
        others = [node for node in nodes if node is not own]
        coefficients = [jnp.ones_like(own)]  # of 1, x, x², …
        scale = jnp.ones_like(own)
        for other in others:
            coefficients = _times_linear(coefficients, other)
            scale = scale * (own - other)
        integral = sum(
            (c / (power + 1) for power, c in enumerate(coefficients)), jnp.zeros_like(own)
        )
        integrals.append(integral / jnp.where(scale == 0, 1, scale))  # 0: slots not used yet
    return integrals


def _times_linear(coefficients: list[jax.Array], root: PerLane) -> list[jax.Array]:
    """Those of (x − root) Σ c_i x^i."""
    zero = jnp.zeros_like(root)
    raised, lowered = [zero, *coefficients], [*coefficients, zero]
    return [up - root * low for up, low in zip(raised, lowered, strict=True)]
