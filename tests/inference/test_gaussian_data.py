"""Gaussian data: with the exact velocity, everything the program computes has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.integration_variable import (
    ImportanceVariable,
    LogSnrVariable,
    NaturalVariable,
)
from diffusion_ode.diffusion.normal_times import NormalTimes
from diffusion_ode.diffusion.parameterization import NoisePrediction, VelocityPrediction
from diffusion_ode.diffusion.time_sampling import (
    AdaptiveTimes,
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.diffusion.uniforms import IndependentUniforms
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.dpm_solver_plus_plus import DpmSolverPlusPlus
from diffusion_ode.solvers.drivers import DeviceLoop
from diffusion_ode.solvers.euler import Euler
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solve import solve
from tests.crossed import crossed
from tests.gaussian_oracle import (
    PARAMETERIZATIONS,
    PATHS,
    draw_data,
    exact_model,
    gaussian,
    in_float32,
    name_of,
    noised_variance,
)

DATA = gaussian()
N = 4
SHAPE = (2, 2, 1)
every_model = pytest.mark.parametrize(
    ("path", "parameterization"), crossed(PATHS, PARAMETERIZATIONS), ids=name_of
)


def followed(model, z, variable=None):
    """The ODE from data to noise in float64, with the exact divergence."""
    flow = ProbabilityFlow(model, variable or NaturalVariable(), ExactTrace())
    return solve(
        flow,
        DATA,
        jnp.asarray(z).reshape(-1, *SHAPE),
        context=jnp.zeros((len(z), 0)),
        solver=DormandPrince5(),
        controller=PIController(1e-8, 1e-8, 1e-8),
        span=flow.span,
        driver=DeviceLoop(),
    )


def end_and_log_density(path, model, z):
    """In each eigendirection z − αμ grows as the standard deviation of the noised data does."""
    before = noised_variance(path, DATA, model.schedule.gamma_0)
    after = noised_variance(path, DATA, model.schedule.gamma_1)
    ends = jnp.asarray([model.schedule.gamma_0, model.schedule.gamma_1])
    alpha, sigma = np.asarray(path.alpha(ends)), np.asarray(path.sigma(ends))
    centred = (z - alpha[0] * DATA["mean"]) @ DATA["rotation"] * np.sqrt(after / before)
    end = alpha[1] * DATA["mean"] + centred @ DATA["rotation"].T
    divergence = 0.5 * np.sum(np.log(after / before))
    prior = -0.5 * np.sum(end**2, axis=1) / sigma[1] ** 2 - 0.5 * N * np.log(
        2 * np.pi * sigma[1] ** 2
    )
    return end, divergence, prior + divergence


@every_model
def test_ode_has_the_end_point_divergence_and_log_density_of_the_closed_form(
    path, parameterization
):
    with jax.enable_x64(True):
        model = exact_model(path, parameterization)
        z = draw_data(DATA, 5)
        end, divergence, log_density = end_and_log_density(path, model, z)
        solution = followed(model, z)
        assert solution.converged.all()
        assert np.allclose(solution.z.reshape(-1, N), end, atol=2e-6)
        assert np.allclose(solution.ell, divergence, atol=2e-6)
        found = solution.ell + model.prior_log_density(solution.z)
        assert np.allclose(found, log_density, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "variable"), crossed(PATHS, [LogSnrVariable(), ImportanceVariable()]), ids=name_of
)
def test_log_density_does_not_depend_on_the_variable_of_integration(path, variable):
    with jax.enable_x64(True):
        model = exact_model(path, VelocityPrediction())
        z = draw_data(DATA, 5)
        solution = followed(model, z, variable)
        found = solution.ell + model.prior_log_density(solution.z)
        assert np.allclose(found, end_and_log_density(path, model, z)[2], atol=1e-5)


@pytest.mark.parametrize(
    ("path", "parameterization", "solver", "allowed"),
    [
        (PATHS[0], VelocityPrediction(), Euler(), 0.02),
        (PATHS[0], VelocityPrediction(), DpmSolverPlusPlus(), 2e-3),
        (PATHS[1], NoisePrediction(), DpmSolverPlusPlus(), 2e-3),
    ],
)
def test_log_density_by_fixed_steps_comes_to_the_closed_form_with_the_methods_order(
    path, parameterization, solver, allowed
):
    with jax.enable_x64(True):
        model = exact_model(path, parameterization)
        z = draw_data(DATA, 5)
        exact = end_and_log_density(path, model, z)[2]
        flow = ProbabilityFlow(model, LogSnrVariable(), ExactTrace())
        errors = []
        for steps in (32, 64):
            solution = solve(
                flow,
                DATA,
                jnp.asarray(z).reshape(-1, *SHAPE),
                context=jnp.zeros((len(z), 0)),
                solver=solver,
                controller=FixedSteps(steps),
                span=flow.span,
                driver=DeviceLoop(),
            )
            assert np.all(solution.nfe == steps)
            found = solution.ell + model.prior_log_density(solution.z)
            errors.append(np.max(np.abs(found - exact)))
        assert errors[1] < allowed
        assert np.log2(errors[0] / errors[1]) == pytest.approx(solver.convergence_order, abs=0.3)


def test_exponential_steps_lead_from_noise_to_the_data_of_the_closed_form():
    path = PATHS[0]
    with jax.enable_x64(True):
        model = exact_model(path, VelocityPrediction())
        z = draw_data(DATA, 5)
        flow = ProbabilityFlow(model, LogSnrVariable())
        solution = solve(
            flow,
            DATA,
            jnp.asarray(end_and_log_density(path, model, z)[0]).reshape(-1, *SHAPE),
            solver=DpmSolverPlusPlus(),
            controller=FixedSteps(64),
            span=flow.span[::-1],
            driver=DeviceLoop(),
        )
        assert np.allclose(solution.z.reshape(-1, N), z, atol=1e-3)
        assert np.array_equal(solution.ell, np.zeros(5))


def information(gamma_0, gamma_1):
    """½∫ E‖ε − ε̂‖² dγ = ½ Σ log (1 + λe^{−γ0})/(1 + λe^{−γ1}): for any path."""
    ends = np.log1p(DATA["variance"][0][:, None] * np.exp([-gamma_0, -gamma_1]))
    return 0.5 * np.sum(ends[:, 0] - ends[:, 1])


def discrete_information(gamma_0, gamma_1, steps):
    """½ Σ_t expm1(γ_t − γ_s) E‖ε − ε̂‖², E‖ε − ε̂‖² = Σ λ/(λ + e^γ)."""
    gamma = np.linspace(gamma_0, gamma_1, steps + 1)
    error = DATA["variance"][0] / (DATA["variance"][0] + np.exp(gamma[1:, None]))
    return 0.5 * np.sum(np.expm1(np.diff(gamma)) * error.sum(axis=1))


@every_model
def test_diffusion_term_of_the_bound_is_the_information_of_gaussian_data(path, parameterization):
    model = exact_model(path, parameterization)
    images = jnp.asarray(draw_data(DATA, 4000).reshape(-1, *SHAPE), jnp.float32)
    bound = VariationalBound(draws=4)
    keys = jax.random.split(jax.random.key(0), len(images))
    diffusion = np.asarray(bound.terms(model, in_float32(DATA), images, keys).diffusion)
    error = diffusion.std() / np.sqrt(len(diffusion))
    assert abs(diffusion.mean() - information(-6.0, 5.0)) < 4 * error
    assert error < 0.01 * information(-6.0, 5.0)


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_bound_of_t_steps_has_its_closed_form_and_tends_to_the_integral(steps):
    model = exact_model(PATHS[0], VelocityPrediction(), gamma_0=-2.0, gamma_1=2.0)
    images = jnp.asarray(draw_data(DATA, 8000).reshape(-1, *SHAPE), jnp.float32)
    bound = VariationalBound(draws=4, times=DiscreteTimes(steps))
    keys = jax.random.split(jax.random.key(1), len(images))
    diffusion = np.asarray(bound.terms(model, in_float32(DATA), images, keys).diffusion)
    expected = discrete_information(-2.0, 2.0, steps)
    assert abs(diffusion.mean() - expected) < 4 * diffusion.std() / np.sqrt(len(diffusion))
    # The exact posterior of x loses by taking steps, and less by smaller ones.
    assert expected > discrete_information(-2.0, 2.0, 2 * steps) > information(-2.0, 2.0)
    if steps == 1000:
        assert expected == pytest.approx(information(-2.0, 2.0), rel=5e-3)


@pytest.mark.parametrize(
    ("path", "times"),
    crossed(
        PATHS,
        [
            UniformTimes(),
            ImportanceSampledTimes(IndependentUniforms()),
            AdaptiveTimes(bins=16),
            NormalTimes(-0.5, 3.0),
        ],
    ),
    ids=name_of,
)
def test_every_sampler_gives_the_same_integral(path, times):
    model = exact_model(path, VelocityPrediction())
    images = jnp.asarray(draw_data(DATA, 8000).reshape(-1, *SHAPE), jnp.float32)
    objective, data, flag = FlowMatching(times), in_float32(DATA), jnp.zeros(len(images))

    @jax.jit
    def step(state, key):
        draws = objective.draw(model, images, key, state)
        diffusion = objective.loss(model, data, images, flag, draws, None).loss
        state = times.update(state, model.schedule, draws.gamma, diffusion * draws.density)
        return state, diffusion

    state, _ = step(times.init(), jax.random.key(0))  # from which the adaptive one has learnt
    _, diffusion = step(state, jax.random.key(1))
    diffusion = np.asarray(diffusion)
    error = diffusion.std() / np.sqrt(len(diffusion))
    assert abs(diffusion.mean() - information(-6.0, 5.0)) < 4 * error
