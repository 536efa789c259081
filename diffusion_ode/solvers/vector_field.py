"""What is integrated: a vector field, and what more is known of it where its linear part is."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from diffusion_ode.solvers.arrays import PerLane, State

Context = Any
"""A pytree of arrays with a leading lane axis."""

VectorField = Callable[[Any, jax.Array, jax.Array, Context], tuple[jax.Array, jax.Array | None]]
"""A function (args, s [lanes], z [lanes, *shape], context) -> (dz/ds, dell/ds [lanes] or None).

`args` is anything shared by all lanes (parameters). `context` is a pytree of arrays with a leading
lane axis: what belongs to one problem, such as its divergence probe. A lane's results must not
depend on another lane's inputs. The function must be hashable and equal from call to call, or it is
compiled again. If it has an attribute `rough_trace` that is true, controllers are not told of
its dell/ds.
"""


@runtime_checkable
class SemilinearField(Protocol):
    """A vector field with a linear part that is known: d(z/a)/dτ = x(s, z).

    The scale a and the clock τ are positive functions of s alone, and dell/ds is the divergence:
      dz/ds = (a′/a) z + a τ′ x,  dell/ds = N a′/a + a τ′ tr ∂x/∂z  in N dimensions.
    A step from s to t then costs no error but that of x: z_t = (a_t/a_s) z_s + a_t ∫ x dτ.
    """

    def __call__(
        self, args: Any, s: PerLane, z: State, context: Context, /
    ) -> tuple[State, PerLane | None]: ...

    def log_scale(self, s: PerLane) -> PerLane:
        """Logarithm of a, at s [lanes]."""
        ...

    def log_clock(self, s: PerLane) -> PerLane:
        """Logarithm of τ, at s [lanes]."""
        ...

    def nonlinear(
        self, args: Any, s: PerLane, z: State, context: Context, /
    ) -> tuple[State, PerLane | None]:
        """Gives (x [lanes, *shape], tr ∂x/∂z [lanes] or None); arguments as of a VectorField."""
        ...
