"""Heun's method."""

from dataclasses import dataclass
from typing import ClassVar

from diffusion_ode.solvers.runge_kutta import RungeKutta
from diffusion_ode.solvers.tableau import Tableau


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Heun's explicit trapezoidal rule, order 2, two evaluations a step.

    The difference from Euler's method estimates the error, so it may also run adaptively.
    Heun 1900, "Neue Methoden zur approximativen Integration der Differentialgleichungen".
    """

    tableau: ClassVar[Tableau] = Tableau(
        name="Heun 2(1)",
        a=((), (1.0,)),
        b=(1 / 2, 1 / 2),
        c=(0.0, 1.0),
        order=2,
        b_error=(-1 / 2, 1 / 2),
        error_order=1,
    )
