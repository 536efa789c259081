"""Two Gaussians in one dimension: the ODE's density against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from diffusion_ode.diffusion.integration_variable import LogSnrVariable
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.drivers import DeviceLoop
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solve import solve
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, exact_model, mixture, name_of

DATA = mixture()
GRID = np.linspace(-2.5, 2.5, 501)


def log_density_of_ode(model, grid):
    flow = ProbabilityFlow(model, LogSnrVariable(), ExactTrace())
    solution = solve(
        flow,
        DATA,
        jnp.asarray(grid).reshape(-1, 1, 1, 1),
        context=jnp.zeros((len(grid), 0)),
        solver=DormandPrince5(),
        controller=PIController(1e-7, 1e-7, 1e-7),
        span=flow.span,
        driver=DeviceLoop(),
    )
    assert solution.converged.all()
    return np.asarray(solution.ell + model.prior_log_density(solution.z))


def log_marginal(path, gamma, z):
    """log Σ_i w_i N(z; αμ_i, α²λ_i + σ²)."""
    alpha, sigma = (float(part(jnp.asarray(gamma))) for part in (path.alpha, path.sigma))
    components = [
        weight * stats.norm.pdf(z, alpha * mean[0], np.sqrt(alpha**2 * variance[0] + sigma**2))
        for weight, mean, variance in zip(
            DATA["weight"], DATA["mean"], DATA["variance"], strict=True
        )
    ]
    return np.log(np.sum(components, axis=0))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=name_of)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_density_of_the_ode_is_that_of_the_noised_mixture(path, parameterization):
    with jax.enable_x64(True):
        # At γ1 = 14 what is left of the data hardly differs from the prior.
        model = exact_model(path, parameterization, shape=(1, 1, 1), gamma_0=-4.0, gamma_1=14.0)
        inside = GRID[np.abs(GRID) < 1.2][::8]
        found = log_density_of_ode(model, inside)
        assert np.allclose(found, log_marginal(path, -4.0, inside), atol=2e-3)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_density_of_the_ode_integrates_to_one_even_where_the_prior_is_off(path):
    with jax.enable_x64(True):
        # At γ1 = 1 the mixture is far from N(0, σ1² I): another density, but still one.
        model = exact_model(path, PARAMETERIZATIONS[0], (1, 1, 1), gamma_0=-4.0, gamma_1=1.0)
        found = log_density_of_ode(model, GRID)
        assert integrate.trapezoid(np.exp(found), GRID) == pytest.approx(1.0, abs=1e-4)
        assert np.abs(found - log_marginal(path, -4.0, GRID)).max() > 0.1
