"""The classical Runge–Kutta method."""

from dataclasses import dataclass
from typing import ClassVar

from diffusion_ode.solvers.runge_kutta import RungeKutta
from diffusion_ode.solvers.tableau import Tableau


@dataclass(frozen=True)
class RungeKutta4(RungeKutta):
    """The classical method, order 4, four evaluations a step, no error estimate.

    Kutta 1901, "Beitrag zur näherungsweisen Integration totaler Differentialgleichungen".
    """

    tableau: ClassVar[Tableau] = Tableau(
        name="Runge–Kutta 4",
        a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 1 / 2, 1 / 2, 1.0),
        order=4,
    )
