"""The coefficients, against SciPy's where it has the method."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import RK23, RK45
from scipy.integrate._ivp import dop853_coefficients

from diffusion_ode.solvers.bogacki_shampine3 import BogackiShampine3
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.dormand_prince8 import DormandPrince8
from diffusion_ode.solvers.heun import Heun


def square(tableau):
    return np.array([[*row, *[0.0] * (tableau.stages - len(row))] for row in tableau.a])


@pytest.mark.parametrize(
    ("solver", "other"), [(DormandPrince5(), RK45), (BogackiShampine3(), RK23)]
)
def test_pairs_equal_those_of_scipy(solver, other):
    tableau = solver.tableau
    assert np.allclose(square(tableau)[:-1, : other.A.shape[1]], other.A, atol=1e-15)
    assert np.allclose(tableau.b[:-1], other.B, atol=1e-15)
    assert np.allclose(tableau.c[:-1], other.C, atol=1e-15)
    # The sign of an error estimate is a convention.
    assert np.allclose(np.abs(tableau.b_error), np.abs(other.E), atol=1e-15)


def test_dormand_prince_8_equals_that_of_scipy():
    tableau, other = DormandPrince8().tableau, dop853_coefficients
    assert np.array_equal(square(tableau), other.A[:12, :12])
    assert np.array_equal(tableau.b, other.B)
    assert np.array_equal(tableau.c, other.C[:12])
    assert np.array_equal(tableau.b_error, other.E5[:12])
    assert np.array_equal(tableau.b_error_low, other.E3[:12])


@pytest.mark.parametrize(
    "change",
    [{"c": (0.0, 0.5)}, {"b": (0.5, 0.6)}, {"b_error": (0.5, 0.5)}, {"fsal": True}, {"a": ((),)}],
)
def test_a_slip_in_a_tableau_is_noticed(change):
    with pytest.raises(ValueError, match="Heun"):
        replace(Heun().tableau, **change)
