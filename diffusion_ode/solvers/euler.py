"""Euler's method."""

from dataclasses import dataclass
from typing import ClassVar

from diffusion_ode.solvers.runge_kutta import RungeKutta
from diffusion_ode.solvers.tableau import Tableau


@dataclass(frozen=True)
class Euler(RungeKutta):
    """Along the slope at the step's start: order 1, one evaluation a step, no error estimate.

    Euler 1768, Institutiones calculi integralis, section 650.
    """

    tableau: ClassVar[Tableau] = Tableau(name="Euler", a=((),), b=(1.0,), c=(0.0,), order=1)
