"""Images from noise: by the ODE, and by T ancestral steps, from networks that know the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.integration_variable import LogSnrVariable
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.errors import UserError
from diffusion_ode.inference import ancestral_sampling, variational_bound
from diffusion_ode.inference.ancestral_sampling import AncestralSampler, ancestral_step
from diffusion_ode.inference.decoding import DrawnLevel, NearestLevel
from diffusion_ode.inference.sampling import OdeSampler
from diffusion_ode.inference.variational_bound import VariationalBound
from tests.crossed import crossed
from tests.gaussian_oracle import (
    PARAMETERIZATIONS,
    PATHS,
    Keeps,
    exact_model,
    gaussian,
    in_float32,
    name_of,
)

SHAPE = (2, 2, 1)
LEVELS = 4
EXPLODING = (-7.824, 9.2103)  # ScoreODE's, in which z reaches ±300


@pytest.mark.parametrize(
    ("path", "parameterization"), crossed(PATHS, PARAMETERIZATIONS), ids=name_of
)
def test_one_ancestral_step_leads_exactly_from_the_noised_data_to_the_less_noised(
    path, parameterization
):
    with jax.enable_x64(True):
        model = exact_model(path, parameterization)
        x = jnp.asarray([0.3, -0.8, 0.1, 0.9]).reshape(1, *SHAPE)
        s, t = jnp.asarray([-1.5]), jnp.asarray([2.0])
        first, second = jax.random.normal(jax.random.key(0), (2, 1, *SHAPE))
        z = model.noised(x, t, first)
        output = model.target(x, t, first)  # of a network that knows x
        found = ancestral_step(model, output, z, t, t - s, second)
        change = -jnp.expm1(s - t)
        mean = path.alpha(s) * x
        # Two independent normals whose variances add up to σ_s².
        kept = path.sigma(s) * jnp.sqrt(1 - change) * first
        fresh = path.sigma(s) * jnp.sqrt(change) * second
        assert np.allclose(found, mean + kept + fresh, atol=1e-12)


def nearly_discrete(path):
    """Each pixel is either 0 or 3 of 4 levels, by an exact network for a narrow mixture."""
    exact = exact_model(path, VelocityPrediction(), (1, 1, 1), gamma_0=-5.0, gamma_1=6.0)
    data = {
        "weight": np.array([0.25, 0.75]),
        "mean": np.array([[-0.75], [0.75]]),
        "variance": np.full((2, 1), 1e-4),
        "rotation": np.eye(1),
    }
    pixels = Pixels((1, 1, 1), LEVELS)
    return (
        Model(path, exact.schedule, exact.parameterization, exact.network, pixels),
        in_float32(data),
    )


@pytest.mark.parametrize(
    ("sampler", "path", "decoder"),
    [
        *crossed([OdeSampler(lanes=400)], PATHS, [NearestLevel(), DrawnLevel()]),
        *crossed([AncestralSampler(60, lanes=400)], PATHS, [DrawnLevel(), NearestLevel()]),
    ],
    ids=name_of,
)
def test_samples_have_the_distribution_of_the_data(path, sampler, decoder):
    model, data = nearly_discrete(path)
    sampler = type(sampler)(**{**vars(sampler), "decoder": decoder})
    samples = list(sampler.draw(model, data, range(400), jax.random.key(0)))
    assert sorted(sample.index for sample in samples) == list(range(400))
    assert all(sample.converged for sample in samples)
    levels = np.asarray([sample.image.item() for sample in samples])
    shares = np.bincount(levels, minlength=LEVELS) / 400
    assert shares[0] == pytest.approx(0.25, abs=0.1)
    assert shares[3] == pytest.approx(0.75, abs=0.1)
    assert shares[1] + shares[2] < 0.02


def test_an_ancestral_sample_depends_on_its_number_and_key_alone():
    model, data = nearly_discrete(PATHS[0])
    model = Model(
        model.path, model.schedule, model.parameterization, model.network, Pixels((1, 1, 1), 256)
    )

    def drawn(indices, lanes, key=0):
        samples = AncestralSampler(5, lanes=lanes).draw(model, data, indices, jax.random.key(key))
        return {sample.index: sample.image.item() for sample in samples}

    together = drawn(range(7), 4)
    assert drawn([5], 4) == {5: together[5]}
    assert drawn([6, 2], 3) == {2: together[2], 6: together[6]}
    assert drawn(range(7), 4, key=1) != together
    assert len(set(together.values())) > 2


def test_by_default_there_are_a_thousand_steps_as_published():
    """Ho et al. 2020, arXiv:2006.11239, section 4."""
    assert AncestralSampler().steps == 1000


def test_ancestral_samples_and_bounds_are_the_same_where_loops_are_fast(monkeypatch):
    """As on accelerators, whose loops no other test runs."""
    model, data = nearly_discrete(PATHS[0])
    levels, keys = (
        jnp.asarray([0, 3, 1]).reshape(3, 1, 1, 1),
        jax.random.split(jax.random.key(1), 3),
    )
    found = []
    for fast in (False, True):
        monkeypatch.setattr(ancestral_sampling, "loops_are_fast", lambda fast=fast: fast)
        monkeypatch.setattr(variational_bound, "loops_are_fast", lambda fast=fast: fast)
        sampler = AncestralSampler(5, lanes=8, decoder=Keeps())
        samples = sampler.draw(model, data, range(8), jax.random.key(0))
        terms = VariationalBound(draws=3).terms(model, data, levels, keys)
        found.append([*(sample.image for sample in samples), *terms])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_samples_that_are_not_finite_have_not_converged():
    model, data = nearly_discrete(PATHS[0])
    broken = {**data, "mean": np.full((2, 1), np.nan, np.float32)}
    samples = list(AncestralSampler(2, lanes=2).draw(model, broken, [0], jax.random.key(0)))
    assert [sample.converged for sample in samples] == [False]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AncestralSampler(0), "steps = 0"),
        (lambda: AncestralSampler(lanes=0), "lanes = 0"),
        (lambda: OdeSampler(lanes=0), "lanes = 0"),
    ],
)
def test_impossible_numbers_are_refused_with_a_remedy(make, words):
    with pytest.raises(UserError, match=words):
        make()


@pytest.mark.parametrize(
    ("path", "ends", "sampler"),
    [
        (PATHS[1], (-8.0, 8.0), OdeSampler(decoder=Keeps(), lanes=500)),
        (PATHS[2], EXPLODING, OdeSampler(variable=LogSnrVariable(), decoder=Keeps(), lanes=500)),
        (PATHS[2], EXPLODING, AncestralSampler(200, decoder=Keeps(), lanes=2000)),
    ],
    ids=["straight, ODE", "exploding, ODE", "exploding, ancestral"],
)
def test_gaussian_samples_have_the_mean_and_covariance_of_the_data(path, ends, sampler):
    data = gaussian()
    exact = exact_model(path, VelocityPrediction(), gamma_0=ends[0], gamma_1=ends[1])
    samples = sampler.draw(exact, in_float32(data), range(2000), jax.random.key(2))
    kept = np.stack([sample.image.ravel() for sample in samples])
    covariance = (data["rotation"] * data["variance"][0]) @ data["rotation"].T
    assert np.allclose(kept.mean(axis=0), data["mean"][0], atol=0.15)
    assert np.allclose(np.cov(kept.T), covariance, atol=0.35)
