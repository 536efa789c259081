"""Dormand and Prince's pair of orders 5 and 4."""

from dataclasses import dataclass
from typing import ClassVar

from diffusion_ode.solvers.runge_kutta import RungeKutta
from diffusion_ode.solvers.tableau import Tableau

_B = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_B_EMBEDDED = (
    5179 / 57600,
    0.0,
    7571 / 16695,
    393 / 640,
    -92097 / 339200,
    187 / 2100,
    1 / 40,
)


@dataclass(frozen=True)
class DormandPrince5(RungeKutta):
    """Order 5 with an error estimate of order 4, first same as last: six evaluations a step.

    Dormand and Prince 1980, "A family of embedded Runge–Kutta formulae", table 2 (RK5(4)7M).
    """

    tableau: ClassVar[Tableau] = Tableau(
        name="Dormand–Prince 5(4)",
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            _B,
        ),
        b=(*_B, 0.0),
        c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        order=5,
        fsal=True,
        b_error=tuple(b - e for b, e in zip((*_B, 0.0), _B_EMBEDDED, strict=True)),
        error_order=4,
    )
