"""A learned dequantisation, on data whose density is known: two pixels of four levels."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

from diffusion_ode.diffusion.conditional_flow import ConditionalFlow, placed_by_flow
from diffusion_ode.diffusion.parameterization import NoisePrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.time_sampling import UniformTimes
from diffusion_ode.diffusion.uniforms import IndependentUniforms
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.objectives.dequantized_bound import DequantizedBound
from tests.gaussian_oracle import exact_model, in_float32

SHAPE, LEVELS = (1, 2, 1), 4
IMAGES = np.asarray(list(itertools.product(range(LEVELS), repeat=2))).reshape(-1, *SHAPE)
FLOW = ConditionalFlow(features=8, couplings=2, components=2)
TURN = np.sqrt(0.5) * np.array([[1.0, -1.0], [1.0, 1.0]])
# Narrow along the one diagonal, so that a uniform place within a bin is far from the best.
DATA = in_float32(
    {
        "weight": np.ones(1),
        "mean": np.array([[0.1, -0.2]]),
        "variance": np.array([[0.3, 0.004]]),
        "rotation": TURN,
    }
)


def model_of(path):
    model = exact_model(path, NoisePrediction(), SHAPE, gamma_0=-5.0)
    return dataclasses.replace(model, pixels=Pixels(SHAPE, LEVELS))


def density_at_the_data_end(model):
    """Of the exact model's z0, which is that of its ODE and of its reverse diffusion alike."""
    gamma = jnp.asarray(model.schedule.gamma_0)
    alpha, sigma = float(model.path.alpha(gamma)), float(model.path.sigma(gamma))
    covariance = TURN @ np.diag(DATA["variance"][0]) @ TURN.T
    return stats.multivariate_normal(
        alpha * DATA["mean"][0], alpha**2 * covariance + sigma**2 * np.eye(2)
    )


def fresh():
    image = jnp.zeros((1, *SHAPE))
    return FLOW.init(jax.random.key(0), image, image)["params"]


@pytest.mark.parametrize("path", [VariancePreserving(), StraightPath()], ids=str)
def test_surprise_is_minus_the_log_density_where_the_network_is_the_exact_score(path):
    model = model_of(path)
    bound, draws = DequantizedBound(model, DATA), 40_000
    z0 = jnp.broadcast_to(jnp.asarray([0.3, 0.1]).reshape(1, *SHAPE), (draws, *SHAPE))
    drawn = bound.draw(model, z0, jax.random.key(0), None)
    found = np.asarray(jax.jit(bound.surprise)(z0, jnp.zeros(draws), drawn))
    exact = -density_at_the_data_end(model).logpdf([0.3, 0.1])
    error = found.std() / np.sqrt(draws)
    assert abs(found.mean() - exact) < 4.0 * error
    assert error < 0.1


def test_times_places_and_noise_know_nothing_of_each_other():
    times = UniformTimes(uniforms=IndependentUniforms())
    model = model_of(VariancePreserving())
    drawn = DequantizedBound(model, DATA, times=times).draw(
        model, jnp.zeros((4000, 1, 1, 1)), jax.random.key(0), None
    )
    columns = [np.ravel(part) for part in (drawn.gamma, drawn.places, drawn.noise)]
    assert np.all(np.abs(np.corrcoef(columns) - np.eye(3)) < 5.0 / np.sqrt(4000))


def test_bound_is_below_the_exact_log_likelihood_and_training_raises_it():
    model = model_of(VariancePreserving())
    flow_model = dataclasses.replace(model, network=FLOW)
    bound, optimizer = DequantizedBound(model, DATA), optax.adam(1e-2)
    density = density_at_the_data_end(model)
    levels = jnp.asarray(np.repeat(IMAGES, 16, axis=0), jnp.int32)

    @jax.jit
    def step(parameters, state, key):
        def loss(parameters):
            draws = bound.draw(flow_model, levels, key, None)
            terms = bound.loss(flow_model, parameters, levels, jnp.zeros(256), draws, None)
            return jnp.mean(terms.loss)

        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    def log_weights(parameters):
        """log p0(z) − log q(z|k) by the density itself: [16, draws]."""
        many = jnp.asarray(np.repeat(IMAGES, 1000, axis=0), jnp.int32)
        noise = jax.random.normal(jax.random.key(9), many.shape)
        start = placed_by_flow(FLOW, parameters, model, many, noise)
        log_density = density.logpdf(np.asarray(start.z).reshape(-1, 2))
        return (log_density + np.asarray(start.log_weight)).reshape(16, -1)

    parameters = fresh()
    before, state = log_weights(parameters), optimizer.init(parameters)
    for number in range(200):
        parameters, state = step(parameters, state, jax.random.key(number))
    after = log_weights(parameters)

    alpha = float(model.path.alpha(jnp.asarray(model.schedule.gamma_0)))
    borders = alpha * (2.0 * np.arange(LEVELS + 1) / LEVELS - 1.0)
    points, weights = np.polynomial.legendre.leggauss(64)
    for i, pair in enumerate(IMAGES.reshape(-1, 2)):
        low, width = borders[pair], np.diff(borders)[pair]
        grid = np.stack(np.meshgrid(*(low[:, None] + 0.5 * width[:, None] * (points + 1.0))), -1)
        shares = np.outer(weights, weights) * np.prod(0.5 * width)
        exact = special.logsumexp(density.logpdf(grid), b=shares)
        error = after[i].std() / np.sqrt(1000)
        assert after[i].mean() < exact + 3.0 * error
    assert np.sum(np.exp(after.mean(axis=1))) <= 1.0
    assert after.mean() > before.mean() + 0.2
