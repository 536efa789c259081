"""Bogacki and Shampine's pair of orders 3 and 2."""

from dataclasses import dataclass
from typing import ClassVar

from diffusion_ode.solvers.runge_kutta import RungeKutta
from diffusion_ode.solvers.tableau import Tableau


@dataclass(frozen=True)
class BogackiShampine3(RungeKutta):
    """Order 3 with an error estimate of order 2, first same as last: three evaluations a step.

    Bogacki and Shampine 1989, "A 3(2) pair of Runge–Kutta formulas".
    """

    tableau: ClassVar[Tableau] = Tableau(
        name="Bogacki–Shampine 3(2)",
        a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0.0),
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        order=3,
        fsal=True,
        b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        error_order=2,
    )
