"""Pixels with a γ each: their form, and bound, ODE and sampling against Gaussian data."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from diffusion_ode.coding.chain import LatentChain
from diffusion_ode.diffusion.dequantization import UniformDequantization
from diffusion_ode.diffusion.gaussian_base import GaussianBase
from diffusion_ode.diffusion.integration_variable import LogSnrVariable
from diffusion_ode.diffusion.learned_schedule import SCHEDULE
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import NoisePrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.polynomial_schedule import PolynomialSchedule
from diffusion_ode.diffusion.time_sampling import (
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.errors import UserError
from diffusion_ode.inference.ancestral_sampling import ancestral_step
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.inference.sampling import OdeSampler
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.objectives.dequantized_bound import DequantizedBound
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.dpm_solver_plus_plus import DpmSolverPlusPlus
from diffusion_ode.solvers.drivers import DeviceLoop
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solve import solve
from diffusion_ode.training.schedule_gradient import schedule_gradient, with_times
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, RealPixels, name_of
from tests.small_network import SmallNetwork

ENDS, SHAPE, N = (-5.0, 4.0), (1, 3, 1), 3
SCHEDULE_OF = PolynomialSchedule(*ENDS)
DRAW = np.random.default_rng(0)
MEAN, ROOT = DRAW.normal(size=N), DRAW.normal(size=(N, N))
DATA = ROOT @ ROOT.T + 0.1 * np.eye(N)
EXACT = np.ones((N, N))
WRONG = np.tril(EXACT)  # of a network that no density has: it sees only what comes before a pixel


def bent(scale=1.0, shape=SHAPE):
    """Far from a line, and otherwise in every pixel."""
    draw = np.random.default_rng(3)
    coefficients = [*draw.normal(scale=2.0 * scale, size=(2, *shape)), np.ones(shape)]
    return dict(zip("abc", np.asarray(coefficients, np.float32), strict=True))


def trained(shape, ends=None):
    parameters = {"shape": jax.tree.map(np.asarray, shape)}
    return SCHEDULE_OF.of(parameters | ({} if ends is None else {"ends": ends}))


@dataclasses.dataclass(frozen=True)
class AffineNetwork:
    """Posterior means under N(mean, covariance), each from those pixels that are `kept` for it."""

    model: Any

    def apply(self, variables, z, time, *args, **kwargs):
        path, schedule = self.model.path, self.model.schedule
        data = variables["params"]
        clock = schedule.gamma_0 + (schedule.gamma_1 - schedule.gamma_0) * time
        at = schedule.at_pixels(clock)
        alpha, sigma = (part(at).reshape(len(z), N) for part in (path.alpha, path.sigma))
        crossed = data["covariance"] * alpha[:, None, :]
        spread = alpha[:, :, None] * crossed + jnp.eye(N) * sigma[:, None, :] ** 2
        gain = data["kept"] * (crossed @ jnp.linalg.inv(spread))
        flat = z.reshape(len(z), N)
        x = data["mean"] + jnp.einsum("bij,bj->bi", gain, flat - alpha * data["mean"])
        noise = (flat - alpha * x) / sigma
        return self.model.parameterization.target(
            path, at, x.reshape(z.shape), noise.reshape(z.shape)
        )


def model_of(shape, path=PATHS[0], parameterization=PARAMETERIZATIONS[0]):
    model = Model(path, trained(shape), parameterization, None, RealPixels(SHAPE, 2))
    return dataclasses.replace(model, network=AffineNetwork(model))


def parameters_of(kept):
    return jax.tree.map(jnp.asarray, {"mean": MEAN, "covariance": DATA, "kept": kept})


def test_every_pixel_grows_from_end_to_end_as_the_integral_of_a_square():
    fresh = SCHEDULE_OF.init(jax.random.key(0), SHAPE)
    time = jnp.linspace(0.0, 1.0, 9)
    gamma = ENDS[0] + (ENDS[1] - ENDS[0]) * time
    line = SCHEDULE_OF.of(fresh).at_pixels(gamma)
    np.testing.assert_allclose(line, np.broadcast_to(gamma[:, None, None, None], (9, *SHAPE)))

    with jax.enable_x64(True):
        shape, clock = bent(), jnp.asarray(np.linspace(*ENDS, 9))
        schedule = trained(shape)
        found, rates = (np.asarray(f(clock)) for f in (schedule.at_pixels, schedule.pixel_rate))
        changes = np.asarray(schedule.pixel_change(clock[1:], jnp.diff(clock)))
    for pixel in np.ndindex(SHAPE):
        square = np.polynomial.Polynomial([shape[name][pixel] for name in "cba"]) ** 2
        grown = square.integ()
        expected = ENDS[0] + (ENDS[1] - ENDS[0]) * grown(np.asarray(time)) / grown(1.0)
        np.testing.assert_allclose(found[(slice(None), *pixel)], expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            rates[(slice(None), *pixel)], square(np.asarray(time)) / grown(1.0), rtol=1e-5
        )
    np.testing.assert_allclose(changes, np.diff(found, axis=0), rtol=1e-5, atol=1e-6)
    assert np.ptp(found[4]) > 1.0, "or the pixels would not differ"


def errors(shape, kept, gamma, path=PATHS[0]):
    """E(ε_i − ε̂_i)² and dγ_i/dγ at each γ, [n, N] of both, by matrices."""
    with jax.enable_x64(True):
        schedule, gamma = trained(shape), jnp.asarray(gamma)
        at = schedule.at_pixels(gamma)
        rates = np.asarray(schedule.pixel_rate(gamma)).reshape(-1, N)
        alpha, sigma = (np.asarray(f(at)).reshape(-1, N) for f in (path.alpha, path.sigma))
    found = []
    for a, s in zip(map(np.diag, alpha), map(np.diag, sigma), strict=True):
        gain = kept * (DATA @ a @ np.linalg.inv(a @ DATA @ a + s @ s))
        back = np.linalg.inv(s) @ (np.eye(N) - a @ gain)
        left, of_x = np.eye(N) - back @ s, back @ a
        found.append(np.diag(left @ left.T + of_x @ DATA @ of_x.T))
    return np.asarray(found), rates


def integral(shape, kept):
    node, weight = np.polynomial.legendre.leggauss(200)
    gamma = ENDS[0] + (ENDS[1] - ENDS[0]) * 0.5 * (node + 1.0)
    error, rate = errors(shape, kept, gamma)
    return 0.25 * (ENDS[1] - ENDS[0]) * np.sum(weight[:, None] * rate * error)


def test_the_integral_depends_on_the_way_unless_a_density_has_the_network_or_all_go_together():
    information = [np.linalg.slogdet(np.eye(N) + DATA * np.exp(-end))[1] for end in ENDS]
    exact = 0.5 * (information[0] - information[1])
    line, together = (
        bent(0.0),
        {name: np.full(SHAPE, part[0, 0, 0]) for name, part in bent().items()},
    )
    for shape in (line, together, bent()):
        assert integral(shape, EXACT) == pytest.approx(exact, rel=1e-5)
    assert integral(together, WRONG) == pytest.approx(integral(line, WRONG), rel=1e-5)
    assert abs(integral(bent(), WRONG) - integral(line, WRONG)) > 0.05


@pytest.mark.parametrize(
    ("path", "times", "kept"),
    [
        (PATHS[0], UniformTimes(), WRONG),
        (PATHS[1], ImportanceSampledTimes(), EXACT),
        (PATHS[2], ImportanceSampledTimes(), WRONG),
    ],
    ids=name_of,
)
def test_bound_and_loss_are_the_integral_by_matrices(path, times, kept):
    model = model_of(bent(0.5), path)
    x = MEAN + np.random.default_rng(1).normal(size=(8_000, N)) @ ROOT_OF_DATA.T
    images, parameters = x.reshape(-1, *SHAPE).astype(np.float32), parameters_of(kept)
    keys = jax.random.split(jax.random.key(0), len(images))
    bound = VariationalBound(draws=1, times=times)
    objective, flag = FlowMatching(times), jnp.zeros(len(images))
    draws = objective.draw(model, images, jax.random.key(1), ())
    expected = integral(bent(0.5), kept)
    for found in (
        bound.terms(model, parameters, images, keys).diffusion,
        objective.loss(model, parameters, images, flag, draws, None).loss,
    ):
        error = np.std(found) / np.sqrt(len(images))
        assert abs(np.mean(found) - expected) < 4.0 * error
        assert error < 0.03 * expected


ROOT_OF_DATA = np.linalg.cholesky(DATA)


@pytest.mark.parametrize(
    ("path", "parameterization"), list(zip(PATHS, PARAMETERIZATIONS, strict=False)), ids=name_of
)
def test_the_ode_gives_the_log_density_of_gaussian_data_at_the_data_end(path, parameterization):
    with jax.enable_x64(True):
        model = model_of(bent(0.5), path, parameterization)
        flow = ProbabilityFlow(model, LogSnrVariable(), ExactTrace())
        ends = [np.asarray(part(jnp.asarray(ENDS))) for part in (path.alpha, path.sigma)]
        (alpha_0, alpha_1), (sigma_0, sigma_1) = ends
        start = DRAW.normal(size=(4, N))
        solution = solve(
            flow,
            parameters_of(EXACT),
            jnp.asarray(start.reshape(-1, *SHAPE)),
            context=jnp.zeros((4, 0)),
            span=flow.span,
            solver=DormandPrince5(),
            controller=PIController(1e-8, 1e-8, 1e-8),
            driver=DeviceLoop(),
        )
        end = np.asarray(solution.z).reshape(-1, N)

    def log_density(z, alpha, sigma):
        spread = alpha**2 * DATA + sigma**2 * np.eye(N)
        centred = z - alpha * MEAN
        square = np.sum(centred * np.linalg.solve(spread, centred.T).T, axis=1)
        return -0.5 * (square + np.linalg.slogdet(2 * np.pi * spread)[1])

    expected = log_density(start, alpha_0, sigma_0) - log_density(end, alpha_1, sigma_1)
    np.testing.assert_allclose(solution.ell, expected, atol=1e-6)


def test_a_dequantisation_learns_by_the_log_density_of_gaussian_data():
    """By that of the noise end, too, which the prior there is not quite."""
    model, draws, place = model_of(bent(0.5)), 40_000, np.array([0.3, -0.2, 0.1])
    bound = DequantizedBound(model, jax.tree.map(jnp.float32, parameters_of(EXACT)))
    z0 = jnp.broadcast_to(jnp.float32(place.reshape(SHAPE)), (draws, *SHAPE))
    drawn = bound.draw(model, z0, jax.random.key(0), None)
    found = np.asarray(jax.jit(bound.surprise)(z0, jnp.zeros(draws), drawn))

    path = model.path
    (alpha_0, alpha_1), (sigma_0, sigma_1) = (
        np.asarray(part(jnp.asarray(ENDS))) for part in (path.alpha, path.sigma)
    )
    start, end = (
        multivariate_normal(alpha * MEAN, alpha**2 * DATA + sigma**2 * np.eye(N))
        for alpha, sigma in ((alpha_0, sigma_0), (alpha_1, sigma_1))
    )
    prior = multivariate_normal(np.zeros(N), sigma_1**2 * np.eye(N))
    kept = alpha_1 / alpha_0
    added = sigma_1**2 - (kept * sigma_0) ** 2

    def expected_at_the_end(density):
        spread = 0.5 * added * np.trace(np.linalg.inv(density.cov))
        return density.logpdf(kept * place) - spread

    expected = expected_at_the_end(end) - expected_at_the_end(prior) - start.logpdf(place)
    error = found.std() / np.sqrt(draws)
    assert abs(found.mean() - expected) < 4.0 * error
    assert error < 0.1


def test_an_ancestral_step_is_the_posterior_of_each_pixel_s_own_gaussians():
    with jax.enable_x64(True):
        model = model_of(bent(), parameterization=NoisePrediction())
        path, gammas = model.path, jnp.asarray([[0.3], [1.5]])
        (alpha_s, alpha_t), (sigma_s, sigma_t) = (
            [np.asarray(part(model.schedule.at_pixels(g))) for g in gammas]
            for part in (path.alpha, path.sigma)
        )
        x, noise = (jnp.asarray(DRAW.normal(size=(1, *SHAPE))) for _ in range(2))
        z = alpha_t * x + sigma_t * noise
        one = jnp.ones_like(z)
        drawn = [
            np.asarray(ancestral_step(model, noise, z, gammas[1], gammas[1] - gammas[0], part))
            for part in (0.0 * one, one)
        ]
    ratio = alpha_t / alpha_s  # z_t | z_s ~ N(ratio z_s, added)
    added = sigma_t**2 - ratio**2 * sigma_s**2
    variance = 1.0 / (1.0 / sigma_s**2 + ratio**2 / added)
    mean = variance * (alpha_s * x / sigma_s**2 + ratio * z / added)
    np.testing.assert_allclose(drawn[0], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(drawn[1] - drawn[0], np.sqrt(variance), rtol=1e-5)


LEVELS, COUNT = 4, 512
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, LEVELS, (COUNT, 1, 2, 1)), jnp.int32)


def small_model():
    pixels = Pixels((1, 2, 1), LEVELS)
    model = Model(PATHS[0], SCHEDULE_OF, NoisePrediction(), SmallNetwork(2), pixels)
    parameters = model.init(jax.random.key(0))
    assert parameters[SCHEDULE]["shape"]["a"].shape == pixels.shape
    shape = jax.tree.map(jnp.float32, bent(0.5, pixels.shape))
    return model, {**parameters, SCHEDULE: {**parameters[SCHEDULE], "shape": shape}}


@pytest.mark.parametrize("times", [UniformTimes(), ImportanceSampledTimes()], ids=name_of)
def test_gradients_of_ends_and_coefficients_are_finite_differences_of_the_bound(times):
    model, parameters = small_model()
    objective = FlowMatching(times)

    def draw(eta):
        bound = model.bound({**parameters, SCHEDULE: eta})
        return objective.draw(bound, IMAGES, jax.random.key(2), ())

    def loss(parameters, part, key):
        bound, flag = model.bound(parameters), jnp.zeros(COUNT)
        terms = objective.loss(bound, parameters, IMAGES, flag, part["draws"], key)
        return jnp.mean(terms.loss) / 2.0, terms

    eta = parameters[SCHEDULE]

    @jax.jit
    def gradient():
        of_all, (terms, by_times) = with_times(loss)(parameters, {"draws": draw(eta)}, None)
        return schedule_gradient(model.schedule, draw, eta, of_all[SCHEDULE], terms, by_times, 2)

    value = jax.jit(lambda eta: loss({**parameters, SCHEDULE: eta}, {"draws": draw(eta)}, None)[0])
    found = jax.tree.leaves_with_path(gradient())
    assert len(found) == 5
    for at, leaf in found:
        step = [jax.tree.map_with_path(lambda p, e, h=h, at=at: e + h * (p == at), eta)
                for h in (1e-2, -1e-2)]  # fmt: skip
        expected = float(value(step[0]) - value(step[1])) / 2e-2
        assert float(jnp.sum(leaf)) == pytest.approx(expected, rel=3e-2, abs=1e-3), at


def test_the_bound_of_a_whole_alphabet_sums_to_at_most_one():
    model, parameters = small_model()
    alphabet = jnp.asarray(np.indices((4, 4)).reshape(2, 16).T.reshape(16, 1, 2, 1), jnp.int32)
    bound = VariationalBound(draws=64)
    totals = [
        bound.terms(model, parameters, alphabet, jax.random.split(jax.random.key(seed), 16)).total
        for seed in range(4)
    ]
    assert 0.02 < float(jnp.sum(jnp.exp(-jnp.mean(jnp.stack(totals), axis=0)))) <= 1.0


class FromInside(UniformDequantization):
    """Starts where the pixels are apart."""

    def gamma(self, model):
        return model.schedule.gamma_0 + 1.0


def test_what_wants_one_gamma_for_all_pixels_refuses_it_in_a_sentence():
    model, parameters = small_model()
    bound = model.bound(parameters)
    keys = jax.random.split(jax.random.key(0), COUNT)
    inside = OdeLikelihood(FromInside())
    sampler = OdeSampler(solver=DpmSolverPlusPlus(), controller=FixedSteps(4))
    for refused in (
        lambda: dataclasses.replace(model, base=GaussianBase()),
        lambda: VariationalBound(times=DiscreteTimes(4)).terms(bound, parameters, IMAGES, keys),
        lambda: LatentChain.over(bound, 4, b"", 0.1),
        lambda: list(sampler.draw(bound, parameters, range(2), jax.random.key(0))),
        lambda: inside.check(model),
    ):
        with pytest.raises(UserError, match=r"(its own|a γ each).*: (give|train|compress|start)"):
            refused()
