"""One pixel of five levels and a known density: code lengths against integrals by quadrature."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from diffusion_ode.diffusion.dequantization import (
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from tests.gaussian_oracle import PATHS, name_of

LEVELS = 5
GAMMA_0 = -2.0 * math.log(3.0187 * LEVELS)
DENSITY = stats.norm(0.15, 0.6)  # log p0(z), as if an ODE had found it
POINTS, POINT_WEIGHTS = np.polynomial.legendre.leggauss(400)


def one_pixel(path):
    schedule = LinearSchedule(GAMMA_0, 5.0)
    return Model(path, schedule, VelocityPrediction(), None, Pixels((1, 1, 1), LEVELS))


def noise_and_probability(dequantization, model):
    """Nodes of the noise, and weights that integrate over its distribution."""
    if isinstance(dequantization, UniformDequantization):
        return 0.5 * (POINTS + 1.0), 0.5 * POINT_WEIGHTS
    cut = 8.0
    if isinstance(dequantization, TruncatedNormalDequantization):
        cut = dequantization.cut(model)
    weights = cut * POINT_WEIGHTS * stats.norm.pdf(cut * POINTS)
    return cut * POINTS, weights / (2.0 * stats.norm.cdf(cut) - 1.0)


def log_weights(dequantization, model, level, noise):
    """log p0(z) + the dequantisation's own log-weight, for every noise."""
    levels = jnp.full((len(noise), 1, 1, 1), level)
    start = dequantization.start(model, levels, jnp.asarray(noise).reshape(-1, 1, 1, 1))
    return DENSITY.logpdf(np.asarray(start.z).ravel()) + np.asarray(start.log_weight)


@pytest.mark.parametrize(
    "dequantization", [UniformDequantization(), TruncatedNormalDequantization()], ids=name_of
)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_weights_average_to_the_mass_of_the_levels_bin(path, dequantization):
    with jax.enable_x64(True):
        model = one_pixel(path)
        noise, probability = noise_and_probability(dequantization, model)
        alpha = float(path.alpha(jnp.asarray(GAMMA_0)))
        borders = alpha * (2.0 * np.arange(LEVELS + 1) / LEVELS - 1.0)
        for level in range(LEVELS):
            values = log_weights(dequantization, model, level, noise)
            mass = np.diff(DENSITY.cdf(borders[level : level + 2]))[0]
            assert probability @ np.exp(values) == pytest.approx(mass, rel=1e-6)
            assert probability @ values < np.log(mass)  # Jensen: the bound of one draw


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_variational_weights_average_to_the_decoders_probability_and_leave_nothing_out(path):
    with jax.enable_x64(True):
        model = one_pixel(path)
        dequantization = VariationalDequantization()
        alpha, sigma = (float(part(jnp.asarray(GAMMA_0))) for part in (path.alpha, path.sigma))
        # z on a grid of its own: E_q[p0 P(k|z) / q] = ∫ p0(z) P(k|z) dz, and Σ_k P(k|z) = 1.
        z = np.linspace(-4.0, 4.0, 4001)
        total = 0.0
        for level in range(LEVELS):
            x = (2 * level + 1) / LEVELS - 1
            noise = (z - alpha * x) / sigma
            values = log_weights(dequantization, model, level, noise)
            log_q = stats.norm.logpdf(noise) - math.log(sigma)
            total += integrate.trapezoid(np.exp(values + log_q), z)
        assert total == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
    "dequantization", [VariationalDequantization(), TruncatedNormalDequantization()], ids=name_of
)
def test_closed_form_entropy_is_the_mean_of_the_sampled_one(dequantization):
    with jax.enable_x64(True):
        model = one_pixel(PATHS[1])
        closed = dataclasses.replace(dequantization, closed_form_entropy=True)
        noise, probability = noise_and_probability(dequantization, model)
        sampled = probability @ log_weights(dequantization, model, 2, noise)
        assert probability @ log_weights(closed, model, 2, noise) == pytest.approx(
            sampled, rel=1e-9
        )


def test_truncated_normals_entropy_is_that_of_scipy():
    with jax.enable_x64(True):
        model = one_pixel(PATHS[0])
        dequantization = TruncatedNormalDequantization(closed_form_entropy=True)
        cut = dequantization.cut(model)
        sigma = float(PATHS[0].sigma(jnp.asarray(GAMMA_0)))
        levels = jnp.full((1, 1, 1, 1), 2)
        found = dequantization.start(model, levels, jnp.zeros((1, 1, 1, 1))).log_weight[0]
        expected = stats.truncnorm(-cut, cut, scale=sigma).entropy()
        assert float(found) == pytest.approx(expected, rel=1e-9)
        assert cut == pytest.approx(3.0187, abs=1e-4)  # as for 256 levels at −13.3


def test_offset_of_uniform_dequantisation_is_seven_bits_for_256_levels_and_alpha():
    path = PATHS[1]
    schedule = LinearSchedule(-13.3, 5.0)
    model = Model(path, schedule, VelocityPrediction(), None, Pixels((2, 2, 3), 256))
    levels = jnp.zeros((1, 2, 2, 3), jnp.int32)
    start = UniformDequantization().start(model, levels, jnp.full((1, 2, 2, 3), 0.25))
    bits = -float(start.log_weight[0]) / (12 * math.log(2.0))
    alpha = float(path.alpha(jnp.asarray(-13.3)))
    assert bits == pytest.approx(7.0 - math.log2(alpha), rel=1e-6)
    assert np.allclose(start.z, alpha * (0.5 / 256 - 1.0), rtol=1e-6)


def test_noise_cut_at_the_bins_border_never_leaves_the_bin():
    model = one_pixel(PATHS[0])
    dequantization = TruncatedNormalDequantization()
    keys = jax.random.split(jax.random.key(0), 5000)
    noise = jax.vmap(lambda key: dequantization.draw(model, key))(keys)
    for level in range(LEVELS):
        start = dequantization.start(model, jnp.full(noise.shape, level), noise)
        alpha = PATHS[0].alpha(jnp.asarray(GAMMA_0))
        assert np.all(model.pixels.nearest(start.z / alpha) == level)
