"""What a method for initial value problems promises."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import jax

from diffusion_ode.solvers.vector_field import VectorField

if TYPE_CHECKING:
    from diffusion_ode.solvers.integrator import Integrator
    from diffusion_ode.solvers.step_controller import StepController


@runtime_checkable
class Solver(Protocol):
    """A method; how long its steps are is the controller's business.

    The easiest ways to make one, each in a few lines: a RungeKutta with its Tableau, or a
    WholeStepMethod with its step.
    """

    @property
    def name(self) -> str:
        """For messages and figures."""
        ...

    @property
    def convergence_order(self) -> int:
        """The error at the end of a span falls as the steps' length to this power."""
        ...

    @property
    def estimates_errors(self) -> bool:
        """Whether a step comes with an estimate of its error, which adaptive controllers need."""
        ...

    def integrator(
        self,
        vector_field: VectorField,
        controller: "StepController",
        sharding: jax.sharding.Sharding | None = None,
    ) -> "Integrator":
        """What takes this method's steps along the field; refuses a field that it cannot follow."""
        ...
