"""Methods that make a whole step at a time, the exponential one among them."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.solvers.dpm_solver_plus_plus import DpmSolverPlusPlus
from diffusion_ode.solvers.drivers import DeviceLoop
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.heun import Heun
from diffusion_ode.solvers.lanes import Item, solve_lanes
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solve import solve
from diffusion_ode.solvers.whole_step import Step, WholeStepMethod

FAST = DeviceLoop()
STARTS = np.array([[1.0, 0.0, 2.0], [0.3, -1.0, 0.5]], np.float32)


class OwnHeun(WholeStepMethod):
    """What `heun` says by a tableau."""

    name = "Heun of one's own"
    convergence_order = 2

    def step(self, field, s, s_next, state, memory):
        h = s_next - s
        first = field(s, state)
        second = field(s_next, state + h * first)
        return Step(state + 0.5 * h * (first + second))


def test_a_step_in_ones_own_words_does_what_the_tableau_does():
    def turning(rate, s, z, context):
        return rate * jnp.roll(z, 1, axis=1) * jnp.cos(s)[:, None], jnp.sum(z, axis=1) * s

    own, tableau = (
        solve(
            turning,
            np.float32(0.7),
            STARTS,
            solver=solver,
            controller=FixedSteps(9),
            span=(0.0, 2.0),
            driver=FAST,
        )
        for solver in (OwnHeun(), Heun())
    )
    assert np.all(own.converged)
    assert np.array_equal(own.nfe, tableau.nfe)
    assert np.allclose(own.z, tableau.z, atol=1e-6)
    assert np.allclose(own.ell, tableau.ell, atol=1e-5)


@dataclass(frozen=True)
class Damped:
    """d(z/a)/dτ = x with a = e^{−s²/2}, τ = e^{2s}; x = context + coupling · sin z."""

    coupling: float

    def log_scale(self, s):
        return -0.5 * s**2

    def log_clock(self, s):
        return 2.0 * s

    def nonlinear(self, args, s, z, context):
        return context + self.coupling * jnp.sin(z), self.coupling * jnp.sum(jnp.cos(z), axis=1)

    def __call__(self, args, s, z, context):
        x, trace = self.nonlinear(args, s, z, context)
        weight = 2.0 * jnp.exp(self.log_scale(s) + self.log_clock(s))
        return -s[:, None] * z + weight[:, None] * x, -3.0 * s + weight * trace


CONTEXT = np.array([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0]], np.float32)


@pytest.mark.parametrize("span", [(-1.0, 0.5), (0.5, -1.0)])
def test_one_exponential_step_is_exact_where_all_but_the_linear_part_is_constant(span):
    result = solve(
        Damped(0.0),
        None,
        STARTS,
        context=CONTEXT,
        solver=DpmSolverPlusPlus(),
        controller=FixedSteps(1),
        span=span,
        driver=FAST,
    )
    before, after = (np.exp(-0.5 * s**2) for s in span)
    moved = (np.exp(2 * span[1]) - np.exp(2 * span[0])) * CONTEXT
    assert np.allclose(result.z, after * (STARTS / before + moved), atol=1e-5)
    assert np.allclose(result.ell, 3 * np.log(after / before), atol=1e-6)
    assert np.all(result.nfe == 1)


def test_error_of_the_exponential_method_falls_with_its_order():
    def ends(solver, steps):
        result = solve(
            Damped(0.5),
            None,
            STARTS.astype(np.float64),
            context=CONTEXT.astype(np.float64),
            solver=solver,
            controller=FixedSteps(steps),
            span=(-1.0, 0.5),
            driver=FAST,
        )
        return np.concatenate([np.asarray(result.z), np.asarray(result.ell)[:, None]], axis=1)

    with jax.enable_x64(True):
        exact = ends(Heun(), 4000)
        errors = [np.linalg.norm(ends(DpmSolverPlusPlus(), n) - exact) for n in (20, 40, 80)]
    order = DpmSolverPlusPlus().convergence_order
    assert np.allclose(-np.diff(np.log2(errors)), order, atol=0.25)


def test_a_refilled_lane_forgets_what_the_method_knew():
    def solved(lanes):
        items = (Item(i, STARTS[i % 2], 0.0, CONTEXT[i // 2]) for i in range(4))
        solutions = solve_lanes(
            Damped(0.5),
            None,
            items,
            lanes=lanes,
            solver=DpmSolverPlusPlus(),
            controller=FixedSteps(5),
            span=(-1.0, 0.5),
            driver=FAST,
        )
        return np.array([[*s.z, s.ell] for s in sorted(solutions, key=lambda s: s.index)])

    assert np.allclose(solved(1), solved(4), atol=1e-5)


@pytest.mark.parametrize(
    ("field", "controller", "words"),
    [
        (lambda *inputs: inputs[2], FixedSteps(3), r"\(2M\) needs a vector field whose linear"),
        (Damped(0.0), PIController(), r"\(2M\) has no error estimate"),
    ],
)
def test_fields_without_a_linear_part_and_adaptive_steps_are_refused(field, controller, words):
    with pytest.raises(UserError, match=words):
        solve(
            field,
            None,
            STARTS,
            context=CONTEXT,
            solver=DpmSolverPlusPlus(),
            controller=controller,
            span=(0.0, 1.0),
        )
