"""The prior that fits: a Gaussian's own density at any γ1, in bound, ODE and samples."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from diffusion_ode.diffusion.covariance import Covariance, FullCovariance, StationaryCovariance
from diffusion_ode.diffusion.end_terms import GaussianEnds
from diffusion_ode.diffusion.gaussian_base import BASE, GaussianBase
from diffusion_ode.diffusion.integration_variable import LogSnrVariable
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.prior import FittedPrior, GaussianPrior, StandardPrior
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.drivers import DeviceLoop
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solve import solve
from tests.diffusion.test_gaussian_base import DATA, SHAPE, STATISTICS, Silent
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, exact_model, name_of

MEAN = DATA["mean"][0]
COVARIANCE = np.asarray((DATA["rotation"] * DATA["variance"][0]) @ DATA["rotation"].T)


FULL = FullCovariance()
normal: Any = multivariate_normal


def fitted(path, gamma_1: float, covariance: Covariance = FULL, statistics: Any = STATISTICS):
    model = replace(
        exact_model(path, PARAMETERIZATIONS[0]),
        network=Silent(),
        base=GaussianBase(covariance),
        prior=FittedPrior(),
        schedule=LinearSchedule(-6.0, gamma_1),
    )
    return model.bound({BASE: statistics})


@pytest.mark.parametrize("path", PATHS, ids=name_of)
@pytest.mark.parametrize("gamma_1", [-1.0, 5.0])
def test_density_divergence_and_draws_are_those_of_the_gaussian(path, gamma_1):
    with jax.enable_x64(True):
        model = fitted(path, gamma_1)
        alpha, sigma = float(path.alpha(gamma_1)), float(path.sigma(gamma_1))
        covariance = alpha**2 * COVARIANCE + sigma**2 * np.eye(4)
        z = np.random.default_rng(0).normal(size=(5, 4)) * sigma
        found = model.prior_log_density(jnp.asarray(z.reshape(-1, *SHAPE)))
        assert np.allclose(found, normal(alpha * MEAN, covariance).logpdf(z), rtol=1e-9)

        # KL of two normals, by its definition.
        inverse, x = np.linalg.inv(covariance), np.random.default_rng(1).normal(size=(5, 4))
        away = alpha * (x - MEAN)
        log_ratio = np.linalg.slogdet(covariance)[1] - 4 * np.log(sigma**2)
        spread = sigma**2 * np.trace(inverse) - 4 + log_ratio
        kl = 0.5 * (np.einsum("ni,ij,nj->n", away, inverse, away) + spread)
        found = model.prior_divergence(jnp.asarray(x.reshape(-1, *SHAPE)))
        assert np.allclose(found, kl, rtol=1e-7, atol=1e-9)

        # A draw is affine in the noise: the images of 0 and of the axes tell all.
        axes = jnp.asarray(np.vstack([np.zeros(4), np.eye(4)]).reshape(5, *SHAPE))
        drawn = np.asarray(model.prior_draw(axes)).reshape(5, 4)
        assert np.allclose(drawn[0], alpha * MEAN)
        made = drawn[1:] - drawn[0]
        assert np.allclose(made.T @ made, covariance, rtol=1e-9)
        assert isinstance(model.prior, GaussianPrior)
        mean, matrix = model.prior.moments(path, gamma_1)
        assert np.allclose(mean, alpha * MEAN)
        assert np.allclose(matrix, covariance, rtol=1e-5, atol=1e-6 * sigma**2)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_the_standard_prior_is_as_wide_as_the_noise(path):
    with jax.enable_x64(True):
        prior, gamma_1 = StandardPrior(), 2.0
        alpha, sigma = float(path.alpha(gamma_1)), float(path.sigma(gamma_1))
        z = np.random.default_rng(0).normal(size=(3, 4))
        images = jnp.asarray(z.reshape(-1, *SHAPE))
        expected = normal(np.zeros(4), sigma**2 * np.eye(4)).logpdf(z)
        assert np.allclose(prior.log_density(path, gamma_1, images), expected)
        expected = 0.5 * np.sum((alpha * z / sigma) ** 2, axis=1)
        assert np.allclose(prior.divergence(path, gamma_1, images), expected)
        assert np.allclose(prior.draw(path, gamma_1, images), sigma * images)


@pytest.mark.parametrize("gamma_1", [-2.0, 0.0, 5.0])
def test_the_flow_of_gaussian_data_gives_their_density_wherever_it_ends(gamma_1):
    with jax.enable_x64(True):
        model = fitted(PATHS[0], gamma_1)
        alpha, sigma = float(PATHS[0].alpha(-6.0)), float(PATHS[0].sigma(-6.0))
        expected = normal(alpha * MEAN, alpha**2 * COVARIANCE + sigma**2 * np.eye(4))
        z = np.random.default_rng(2).normal(size=(3, 4))
        flow = ProbabilityFlow(model, LogSnrVariable(), HutchinsonTrace())
        solution = solve(
            flow,
            {BASE: STATISTICS},
            jnp.asarray(z.reshape(-1, *SHAPE)),
            context=jnp.ones((3, 1, *SHAPE)),  # the probe, which no network's share is left for
            solver=DormandPrince5(),
            controller=PIController(1e-8, 1e-8, 1e-8),
            span=flow.span,
            driver=DeviceLoop(),
        )
        found = solution.ell + model.prior_log_density(jnp.asarray(solution.z))
        assert np.allclose(found, expected.logpdf(z), atol=1e-5)


def test_the_bound_of_gaussian_data_does_not_depend_on_where_it_ends():
    """The KL term takes over what the diffusion term leaves: of the mean over the data."""
    levels = jnp.asarray(np.random.default_rng(3).integers(0, 17, size=(4000, *SHAPE)), jnp.int32)
    pixels = Pixels(SHAPE, 17)
    statistics = GaussianBase(StationaryCovariance()).fit(np.asarray(levels), pixels.levels)
    keys, totals = jax.random.split(jax.random.key(0), len(levels)), []
    for gamma_1 in (-2.0, 5.0):
        model = fitted(PATHS[0], gamma_1, StationaryCovariance(), statistics)
        model = replace(model, pixels=pixels)
        terms = VariationalBound(draws=8).terms(model, {BASE: statistics}, levels, keys)
        totals.append(np.asarray(terms.prior + terms.diffusion))
    error = np.std(totals[0] - totals[1]) / np.sqrt(len(levels))
    assert abs(np.mean(totals[0] - totals[1])) < 4 * error
    assert error < 0.05


def test_a_prior_that_nothing_is_fitted_by_or_that_is_not_the_published_one_is_refused():
    model = fitted(PATHS[0], 5.0)
    with pytest.raises(UserError, match=r"model\.base=gaussian_base"):
        replace(model, base=None, prior=FittedPrior())
    with pytest.raises(TypeError, match="bound"):
        replace(model, prior=FittedPrior()).prior_draw(jnp.zeros((1, *SHAPE)))
    bound = ReferenceQuirks(unit_prior=True).bound(VariationalBound())
    levels = jnp.zeros((1, *SHAPE), jnp.int32)
    with pytest.raises(UserError, match="unit_prior"):
        bound.ends.prior(model, levels)
    standard = replace(model, prior=StandardPrior())
    assert bound.ends.prior(standard, levels).shape == (1,)
    assert GaussianEnds().prior(standard, levels).shape == (1,)
