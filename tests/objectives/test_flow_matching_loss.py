"""Flow Matching's own loss, from its paper's formulas, beside the pieces that stand for it."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.learned_schedule import LearnedScalarSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import NoisePrediction, VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.straight_schedule import StraightSchedule
from diffusion_ode.diffusion.time_sampling import UniformTimes
from diffusion_ode.diffusion.weighting import UnweightedError
from diffusion_ode.objectives.flow_matching import FlowMatching
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, RealPixels, name_of
from tests.small_network import SmallNetwork

SIGMA_MIN, SHAPE, N, COUNT = 1e-4, (1, 3, 1), 3, 8192
DRAW = np.random.default_rng(0)
WEIGHTS, SHIFT = DRAW.normal(size=(N, N)), DRAW.normal(size=N)
MEAN, ROOT = DRAW.normal(size=N), DRAW.normal(size=(N, N))
OBJECTIVE = FlowMatching(UniformTimes(), UnweightedError(of=VelocityPrediction()))


@dataclass(frozen=True)
class Affine:
    """Guesses x = Wz + b, and answers what its parameterisation makes of that."""

    parameterization: Any

    def apply(self, variables, z, time, flag, sigma, *, deterministic=True, rngs=None):
        x, at = variables["params"]["x"](z), sigma[:, None, None, None]
        gamma = 2.0 * (jnp.log(at) - jnp.log1p(-at))
        noise = (z - (1.0 - at) * x) / at
        return self.parameterization.target(StraightPath(), gamma, x, noise)


def guess(z):
    return (z.reshape(-1, N) @ WEIGHTS.T + SHIFT).reshape(z.shape)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=name_of)
def test_it_is_half_the_plain_conditional_loss_at_times_uniform_between_the_ends(parameterization):
    """F is the velocity by √2, hence the half; σ_min moves what is regressed on by as little."""
    end = 2.0 * math.log((1.0 - SIGMA_MIN) / SIGMA_MIN)
    schedule = StraightSchedule(-end, end)
    model = Model(
        StraightPath(), schedule, parameterization, Affine(parameterization), RealPixels(SHAPE, 2)
    )
    x = MEAN + DRAW.normal(size=(COUNT, N)) @ ROOT.T
    images = x.reshape(-1, *SHAPE).astype(np.float32)
    draws = OBJECTIVE.draw(model, images, jax.random.key(0), ())
    found = np.asarray(
        OBJECTIVE.loss(model, {"x": guess}, images, jnp.zeros(COUNT), draws, None).loss
    )

    noise = np.asarray(draws.noise, np.float64).reshape(COUNT, N)
    time = 1.0 / (1.0 + np.exp(0.5 * np.asarray(draws.gamma, np.float64)))  # 1 − σ
    gaps = np.diff(np.sort(time))
    np.testing.assert_allclose(gaps, 1.0 / COUNT, rtol=0.1)  # as far as float32 resolves γ

    # Lipman et al. 2023, equations 22 and 23: ψ_t = (1 − (1 − σ_min)t) x0 + t x1, and its rate.
    spread = 1.0 - (1.0 - SIGMA_MIN) * time[:, None]
    at = spread * noise + time[:, None] * x
    guessed = at @ WEIGHTS.T + SHIFT
    velocity = guessed - (at - time[:, None] * guessed) / spread
    loss = np.sum((velocity - (x - (1.0 - SIGMA_MIN) * noise)) ** 2, axis=1)
    inside = (time > 0.05) & (time < 0.95)  # float32 and σ_min count where σ is no larger
    np.testing.assert_allclose(found[inside], 0.5 * loss[inside], rtol=5e-3, atol=1e-3)


def test_its_mean_is_the_integral_of_the_conditional_loss_by_matrices():
    """With v̂ = z it is ½∫ (α − 1)² E‖x‖² + (σ + 1)² N over σ."""
    schedule = StraightSchedule(-9.0, 9.0)

    class Itself(Affine):
        def apply(self, variables, z, *args, **kwargs):
            return -z * math.sqrt(0.5)  # F̂ of v̂ = z

    parameterization = VelocityPrediction()
    model = Model(
        StraightPath(), schedule, parameterization, Itself(parameterization), RealPixels(SHAPE, 2)
    )
    x = MEAN + DRAW.normal(size=(COUNT, N)) @ ROOT.T
    images = x.reshape(-1, *SHAPE).astype(np.float32)
    draws = OBJECTIVE.draw(model, images, jax.random.key(1), ())
    loss = OBJECTIVE.loss(model, {}, images, jnp.zeros(COUNT), draws, None).loss
    node, weight = np.polynomial.legendre.leggauss(8)
    ends = 1.0 / (1.0 + np.exp(-0.5 * np.array([-9.0, 9.0])))
    sigma = ends[0] + (ends[1] - ends[0]) * 0.5 * (node + 1.0)
    square = MEAN @ MEAN + np.trace(ROOT @ ROOT.T)
    expected = 0.5 * np.sum(0.5 * weight * (sigma**2 * square + (sigma + 1.0) ** 2 * N))
    error = np.std(loss) / math.sqrt(COUNT)
    assert abs(np.mean(loss) - expected) < 4.0 * error
    assert error < 0.02 * expected


def test_learned_ends_have_a_noise_of_their_own():
    schedule = LearnedScalarSchedule(-6.0)
    model = Model(PATHS[0], schedule, NoisePrediction(), SmallNetwork(2), Pixels((2, 2, 1), 4))
    model = model.bound(model.init(jax.random.key(0)))
    images = jnp.zeros((1000, 2, 2, 1), jnp.int32)
    draws = FlowMatching(UniformTimes()).draw(model, images, jax.random.key(1), ())
    assert draws.end_noise is not None
    together = np.corrcoef(np.ravel(draws.noise), np.ravel(draws.end_noise))[0, 1]
    assert abs(together) < 5.0 / np.sqrt(4000)
