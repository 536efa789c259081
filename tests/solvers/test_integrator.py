"""Single batches: orders, agreement with other programs, tolerances, and lanes that fail."""

import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from diffusion_ode.errors import UserError
from diffusion_ode.solvers import drivers
from diffusion_ode.solvers.adams import Adams, integration_weights
from diffusion_ode.solvers.bogacki_shampine3 import BogackiShampine3
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.dormand_prince8 import DormandPrince8
from diffusion_ode.solvers.drivers import DeviceLoop, HostLoop
from diffusion_ode.solvers.euler import Euler
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.heun import Heun
from diffusion_ode.solvers.lane_state import Outcome
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.runge_kutta4 import RungeKutta4
from diffusion_ode.solvers.solve import solve

FAST = DeviceLoop()
"""Without a network the loop on the device is the fast one on CPUs too."""


def pendulum(stiffness, s, z, damping):
    """A driven, damped pendulum; ell accumulates its divergence and a wave."""
    angle, speed = z[:, 0], z[:, 1]
    slope = [speed, -stiffness * jnp.sin(angle) - damping * speed + jnp.cos(2 * s)]
    return jnp.stack(slope, axis=1), -damping + jnp.sin(3 * s) * angle


STIFFNESS = np.float32(4)
DAMPING = np.array([0.1, 0.5, 2.0, 8.0])
STARTS = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0], [0.5, 0.5]])


def reference(start, damping, span=(0.0, 3.0)):
    def slopes(s, y):
        angle, speed, _ = y
        forced = -STIFFNESS * np.sin(angle) - damping * speed + np.cos(2 * s)
        return [speed, forced, -damping + np.sin(3 * s) * angle]

    result = solve_ivp(slopes, span, [*start, 0.0], method="DOP853", rtol=1e-12, atol=1e-12)
    return result.y[:2, -1], result.y[2, -1]


REFERENCE_Z, REFERENCE_ELL = map(np.array, zip(*map(reference, STARTS, DAMPING), strict=True))


def swing(controller, solver=None, *, span=(0.0, 3.0), driver=FAST, dtype=np.float32, **kwargs):
    result = solve(
        kwargs.pop("field", pendulum),
        dtype(STIFFNESS),
        kwargs.pop("z", STARTS).astype(dtype),
        kwargs.pop("ell", None),
        kwargs.pop("context", DAMPING).astype(dtype),
        solver=solver or DormandPrince5(),
        controller=controller,
        span=span,
        driver=driver,
        **kwargs,
    )
    return jax.tree.map(np.asarray, result)


@pytest.mark.parametrize(
    ("solver", "sizes"),
    [
        (Euler(), (0.04, 0.02, 0.01)),
        (Heun(), (0.04, 0.02, 0.01)),
        (BogackiShampine3(), (0.04, 0.02, 0.01)),
        (RungeKutta4(), (0.08, 0.04, 0.02)),
        (DormandPrince5(), (0.12, 0.06, 0.03)),
        (DormandPrince8(), (0.4, 0.28, 0.2)),
    ],
)
def test_error_of_a_step_falls_with_the_stated_order(solver, sizes):
    with jax.enable_x64(True):
        integrator = solver.integrator(pendulum, FixedSteps(1))
        z = jnp.asarray([[1.0, 0.3]] * 3)
        start, end = jnp.full(3, 0.2), 0.2 + jnp.asarray(sizes)
        begin = jax.jit(integrator.start)
        state = begin(z, jnp.zeros(3), jnp.full(3, 0.5), start, end, jnp.ones(3, bool))
        state = FAST.run(integrator, state, 4.0, enough=3)
        assert np.all(state.nfe == solver.tableau.stages)
        exact = [reference([1.0, 0.3], 0.5, (0.2, float(stop))) for stop in end]
        errors = [
            np.linalg.norm([*(state.z[i] - of_z), state.ell[i] - of_ell])
            for i, (of_z, of_ell) in enumerate(exact)
        ]
    slopes = np.diff(np.log(errors)) / np.diff(np.log(sizes))
    assert np.allclose(slopes, solver.tableau.order + 1, atol=0.45)


@pytest.mark.parametrize(
    "order", [1, 4, 5, *(pytest.param(order, marks=pytest.mark.long) for order in (2, 3))]
)
def test_adams_of_any_order_heeds_the_log_density_that_z_does_not_show(order):
    def hidden(args, s, z, context):
        return jnp.full_like(z, 0.1), 5.0 * jnp.cos(5.0 * s)

    result = solve(
        hidden,
        None,
        np.zeros((1, 1)),
        solver=Adams(order),
        controller=PIController(1e-3, 1e-3, 1e-4, factor_max=2.0, max_steps=9999),
        span=(0.0, 3.3),
        driver=FAST,
    )
    assert float(result.ell[0]) == pytest.approx(np.sin(5.0 * 3.3), abs=2e-2)


@pytest.mark.parametrize("order", [2, 3])
def test_error_of_adams_falls_with_its_order(order):
    """Globally: the first step, which knows one slope only, errs by h³ once."""
    steps = np.array([40, 80, 160])
    with jax.enable_x64(True):
        results = [swing(FixedSteps(n), Adams(order), dtype=np.float64) for n in steps.tolist()]
    errors = [
        np.linalg.norm([*(r.z - REFERENCE_Z)[0], (r.ell - REFERENCE_ELL)[0]]) for r in results
    ]
    assert all(np.all(r.nfe == n + 1) for r, n in zip(results, steps, strict=True))
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(steps))
    assert np.allclose(slopes, 3, atol=0.45)


def test_adams_integrates_polynomials_exactly_over_unequal_steps():
    nodes = jnp.asarray([[1.0, 0.0, -0.7, -2.0]] * 4)
    weights = integration_weights(nodes, jnp.arange(1, 5))
    for used in range(1, 5):
        for power in range(used):
            integral = jnp.sum(weights[used - 1] * nodes[0] ** power)
            assert np.isclose(integral, 1 / (power + 1), atol=1e-5)
        assert np.all(weights[used - 1, used:] == 0)


def test_adams_knows_one_slope_in_its_first_step_and_three_from_its_second_on():
    """The trapezium of ∫ s² errs by h³/6, once; three slopes integrate it exactly."""

    def square(args, s, z, context):
        return jnp.zeros_like(z), s**2

    result = solve(
        square,
        None,
        np.zeros((1, 1), np.float32),
        solver=Adams(4),
        controller=FixedSteps(4),
        span=(0.0, 1.0),
        driver=FAST,
    )
    assert float(result.ell[0]) - 1 / 3 == pytest.approx(0.25**3 / 6, rel=1e-3)


def test_adams_needs_one_evaluation_a_step():
    result = swing(PIController(initial_step=0.01, factor_max=2.0), Adams())
    assert np.all(result.nfe == 1 + result.accepted + result.rejected)
    assert np.allclose(result.z, REFERENCE_Z, atol=1e-3)


def test_tolerance_in_the_fields_own_unit():
    """A unit of u makes a unit tolerance of t what an absolute one of u·t is."""

    class Field:
        def __call__(self, *args):
            return pendulum(*args)

        def unit(self, s):
            return jnp.full_like(s, 0.5)

    options = {"rtol": 0.0, "log_density_tolerance": 1.0}
    scaled = swing(PIController(atol=0.0, unit_tolerance=1e-4, **options), field=Field())
    absolute = swing(PIController(atol=5e-5, **options))
    assert np.array_equal(scaled.nfe, absolute.nfe)
    assert np.allclose(scaled.z, absolute.z, atol=1e-6)


@pytest.mark.parametrize("solver", [DormandPrince5(), DormandPrince8(), Adams(4)])
def test_adaptive_solves_agree_with_scipy(solver):
    with jax.enable_x64(True):
        controller = PIController(rtol=1e-9, atol=1e-9, log_density_tolerance=1e-9, max_steps=9999)
        result = swing(controller, solver, dtype=np.float64)
    assert np.all(result.converged)
    assert np.allclose(result.z, REFERENCE_Z, rtol=0, atol=2e-7)
    assert np.allclose(result.ell, REFERENCE_ELL, rtol=0, atol=2e-7)


def test_agrees_with_diffrax():
    def slope(s, z, args):
        value, _ = pendulum(STIFFNESS, jnp.asarray(s)[None], z[None], args[None])
        return value[0]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        other = diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Dopri5(),
            0.0,
            3.0,
            None,
            jnp.asarray(STARTS[1], jnp.float32),
            args=jnp.asarray(DAMPING[1], jnp.float32),
            stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5),
        )
    ours = swing(PIController())
    assert np.allclose(ours.z[1], other.ys[0], atol=1e-4)
    assert ours.accepted[1] < 1.5 * int(other.stats["num_accepted_steps"])


def test_costs_about_what_scipy_costs_at_the_same_tolerance():
    ours = swing(PIController(log_density_tolerance=1.0))
    others = [
        solve_ivp(
            lambda s, z, damping=damping: [
                z[1],
                -STIFFNESS * np.sin(z[0]) - damping * z[1] + np.cos(2 * s),
            ],
            (0.0, 3.0),
            start,
            rtol=1e-5,
            atol=1e-5,
        ).nfev
        for start, damping in zip(STARTS, DAMPING, strict=True)
    ]
    assert np.all(ours.nfe < 1.25 * np.array(others))


def test_evaluations_are_counted_per_lane_and_add_up():
    result = swing(PIController())
    first_slope, look_ahead, per_step = 1, 1, 6
    steps = result.accepted + result.rejected
    assert np.array_equal(result.nfe, first_slope + look_ahead + per_step * steps)
    assert len(set(np.asarray(result.nfe).tolist())) > 1
    without_look_ahead = swing(PIController(initial_step=0.05))
    steps = without_look_ahead.accepted + without_look_ahead.rejected
    assert np.array_equal(without_look_ahead.nfe, first_slope + per_step * steps)


def test_an_example_does_not_depend_on_its_neighbours():
    together = swing(PIController())
    order = np.array([3, 3, 1, 0])
    others = swing(PIController(), z=STARTS[order], context=DAMPING[order])
    assert np.allclose(others.z, together.z[order], atol=1e-6)
    assert np.allclose(others.ell, together.ell[order], atol=1e-5)
    assert np.array_equal(others.nfe, together.nfe[order])


def test_host_and_device_give_the_same_numbers():
    host, device = (swing(PIController(), driver=driver) for driver in (HostLoop(), DeviceLoop()))
    assert np.allclose(host.z, device.z, atol=1e-6)
    assert np.allclose(host.ell, device.ell, atol=1e-5)
    assert np.array_equal(host.nfe, device.nfe)


def test_solving_back_returns_to_the_start():
    forth = swing(PIController())
    back = swing(PIController(), z=np.asarray(forth.z), ell=forth.ell, span=(3.0, 0.0))
    assert np.all(back.converged)
    # The most damped lane grows by e^24 on the way back.
    assert np.allclose(back.z[:2], STARTS[:2], atol=1e-3)
    assert np.allclose(back.ell[:2], 0, atol=1e-3)


def test_the_log_density_has_its_own_tolerance():
    def wave(frequency, s, z, context):
        return jnp.zeros_like(z), 50 * jnp.sin(frequency * s)

    z = np.zeros((1, 5), np.float32)
    exact = 50 * (1 - np.cos(7 * 3.0)) / 7
    errors, evaluations = [], []
    for tolerance in (1e-2, 1e-4, 1e-5):
        result = solve(
            wave,
            np.float32(7),
            z,
            solver=BogackiShampine3(),
            controller=PIController(rtol=1.0, atol=1.0, log_density_tolerance=tolerance),
            span=(0.0, 3.0),
            driver=FAST,
        )
        per_dimension = abs(float(result.ell[0]) - exact) / 5
        assert per_dimension < tolerance * int(result.accepted[0])
        errors.append(per_dimension)
        evaluations.append(int(result.nfe[0]))
    assert evaluations == sorted(evaluations)
    assert evaluations[0] < evaluations[1] < evaluations[2]


def test_a_field_without_a_density_is_solved_by_the_same_code():
    def slope_only(*inputs):
        return pendulum(*inputs)[0], None

    result = solve(
        slope_only,
        STIFFNESS,
        STARTS.astype(np.float32),
        None,
        DAMPING.astype(np.float32),
        solver=DormandPrince5(),
        controller=PIController(),
        span=(0.0, 3.0),
        driver=FAST,
    )
    assert np.allclose(result.z, REFERENCE_Z, atol=3e-4)
    assert np.array_equal(result.ell, np.zeros(4))


def test_a_lane_that_is_not_finite_fails_alone():
    clean = swing(PIController())
    poisoned = DAMPING.copy()
    poisoned[2] = np.nan
    result = swing(PIController(), context=poisoned)
    assert result.outcome.tolist() == [2, 2, Outcome.NOT_FINITE, 2]
    assert result.nfe[2] == 1
    for lane in (0, 1, 3):
        assert np.array_equal(result.z[lane], clean.z[lane])


def test_a_blow_up_is_reported_and_not_ended_silently():
    def explosive(rate, s, z, context):
        return rate * z**2, jnp.sum(2 * rate * z, axis=1)  # reaches infinity at s = 1 / (rate z)

    z = np.array([[0.1], [1.0]], np.float32)
    for controller in (PIController(), FixedSteps(100)):
        result = solve(
            explosive,
            np.float32(1),
            z,
            solver=DormandPrince5(),
            controller=controller,
            span=(0.0, 3.0),
            driver=FAST,
        )
        assert result.converged.tolist() == [True, False]
        assert result.outcome[1] in (Outcome.STEP_TOO_SMALL, Outcome.NOT_FINITE)
        assert result.z[0, 0] == pytest.approx(1 / 7, abs=1e-4)


def test_running_out_of_steps_is_reported_per_lane():
    needed = np.asarray(swing(PIController()).accepted)
    limit = int(np.sort(needed)[1])
    result = swing(PIController(max_steps=limit))
    assert np.array_equal(result.converged, needed <= limit)
    assert set(result.outcome[needed > limit].tolist()) == {Outcome.OUT_OF_STEPS}


def test_fixed_steps_end_exactly_and_cost_what_they_say():
    result = swing(FixedSteps(25), RungeKutta4())
    assert np.array_equal(result.nfe, [100] * 4)
    assert np.array_equal(result.accepted, [25] * 4)
    assert np.allclose(result.z, REFERENCE_Z, atol=2e-2)


def test_rounding_of_times_does_not_add_up_in_single_precision():
    """Far from zero, where a step is only about a hundred units in the last place."""

    def clock(args, s, z, context):
        return jnp.ones_like(z), jnp.ones_like(s)

    result = solve(
        clock,
        None,
        np.zeros((1, 1), np.float32),
        solver=Heun(),
        controller=FixedSteps(1000),
        span=(100.0, 101.0),
        driver=FAST,
    )
    assert float(result.ell[0]) == pytest.approx(1.0, abs=3e-6)


def test_another_tolerance_or_number_of_steps_compiles_nothing():
    for controllers in (
        [PIController(), PIController().tightened(0.1, 5), PIController(max_steps=7)],
        [FixedSteps(3), FixedSteps(5)],
    ):
        swing(controllers[0], Heun(), driver=HostLoop())
        before = drivers.advance._cache_size()
        results = [swing(controller, Heun(), driver=HostLoop()) for controller in controllers]
        assert drivers.advance._cache_size() == before
        assert len({tuple(result.nfe.tolist()) for result in results}) == len(controllers)


@pytest.mark.parametrize("driver", [HostLoop(), DeviceLoop()])
def test_the_callers_arrays_survive(driver):
    z, damping = STARTS.astype(np.float32), DAMPING.astype(np.float32)
    on_device = jnp.asarray(z), jnp.asarray(damping)
    for arrays in ((z, damping), on_device):
        solve(
            pendulum,
            STIFFNESS,
            arrays[0],
            None,
            arrays[1],
            solver=Heun(),
            controller=FixedSteps(3),
            span=(0.0, 3.0),
            driver=driver,
        )
        assert np.array_equal(arrays[0], STARTS.astype(np.float32))
        assert np.array_equal(arrays[1], DAMPING.astype(np.float32))


def test_can_be_traced_inside_a_larger_function():
    @jax.jit
    def final(z):
        return solve(
            pendulum,
            jnp.float32(STIFFNESS),
            z,
            None,
            jnp.asarray(DAMPING, jnp.float32),
            solver=DormandPrince5(),
            controller=PIController(),
            span=(0.0, 3.0),
            driver=FAST,
        ).z

    assert np.allclose(final(STARTS.astype(np.float32)), REFERENCE_Z, atol=3e-4)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: swing(PIController(), RungeKutta4()), "no error estimate"),
        (lambda: swing(PIController(), span=(1.0, 1.0)), "no length"),
        (lambda: swing(PIController(rtol=1e-9, atol=1e-9)), "resolves"),
        (lambda: PIController(rtol=-1.0), r"rtol = -1\.0 is not a float in \[0, "),
        (
            lambda: PIController(log_density_tolerance=0.0),
            r"log_density_tolerance = 0\.0 is not a float in \(0, ",
        ),
        (lambda: PIController(max_steps=0), r"max_steps = 0 is not an int in \[1, "),
        (lambda: PIController(initial_step=-0.1), r"initial_step = -0\.1 is not a float in \(0, "),
        (lambda: PIController(safety=math.nan), "safety = nan is not a float in "),
        (lambda: PIController(factor_max=0.5), r"factor_max = 0\.5 is not a float in "),
        (lambda: FixedSteps(0), r"steps = 0 is not an int in \[1, "),
    ],
)
def test_impossible_requests_are_refused_with_a_remedy(act, words):
    with pytest.raises(UserError, match=words):
        act()
