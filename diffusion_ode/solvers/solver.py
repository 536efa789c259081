"""A method for initial value problems, of one kind or the other."""

from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.tableau import RungeKutta

Solver = RungeKutta | Adams


def name_of(solver: Solver) -> str:
    """For messages and figures."""
    return solver.name if isinstance(solver, Adams) else solver.tableau.name


def estimates_errors(solver: Solver) -> bool:
    """Whether a step of it comes with an estimate of its error."""
    return isinstance(solver, Adams) or solver.tableau.b_error is not None


def order_of(solver: Solver) -> int:
    """The global error falls as the step to this power."""
    if isinstance(solver, Adams):
        return min(solver.order + 1, 3)  # the first step knows one slope, and errs by h³
    return solver.tableau.order
