"""Two pixels of four levels: all sixteen images come back, in as many bits as the bound says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.coding import losses
from diffusion_ode.coding.chain import LatentChain, log_density
from diffusion_ode.coding.codec import PLAIN, BitsBackCodec
from diffusion_ode.coding.stack import BitStack
from diffusion_ode.diffusion.covariance import FullCovariance
from diffusion_ode.diffusion.gaussian_base import BASE, GaussianBase
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.prior import FittedPrior
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.time_sampling import DiscreteTimes
from diffusion_ode.errors import UserError
from diffusion_ode.inference.variational_bound import VariationalBound
from tests.gaussian_oracle import ExactNetwork
from tests.inference.test_whole_alphabet import IMAGES, PATHS, random_model

STEPS, REPEATS = 10, 40


@pytest.fixture(scope="module", params=PATHS, ids=str)
def coded(request):
    model, parameters = random_model(request.param)
    chain = LatentChain.over(model, STEPS, losses.ANCESTRAL, 0.25)
    codec = BitsBackCodec(chain, parameters)
    images = np.random.default_rng(0).permutation(np.repeat(IMAGES, REPEATS, axis=0))
    return codec, images, codec.encode(images)


def test_every_image_comes_back(coded):
    codec, images, file = coded
    assert np.array_equal(codec.decode(file.payload, file.groups), images)


def test_mean_length_over_draws_is_the_bound_of_as_many_steps(coded):
    codec, images, file = coded
    model, count = codec.chain.model, len(images)
    assert file.coded > 0.8 * count
    assert file.net_bits * np.log(2) == pytest.approx(file.bound_nats, rel=0.01)

    # The same images, each with draws of its own that no stack has given.
    bound = VariationalBound(draws=STEPS, times=DiscreteTimes(STEPS))
    some = [i for i, group in enumerate(_group_of_each(file.groups)) if group != PLAIN]
    levels = jnp.asarray(np.repeat(images[some], 8, axis=0), jnp.int32)
    keys = jax.random.split(jax.random.key(5), len(levels))
    nats = np.asarray(bound.terms(model, codec.parameters, levels, keys).total)
    nats = nats.reshape(-1, 8)
    # The file is one draw an image, whose spread is that of the independent ones.
    error = np.sqrt(nats.var(axis=1, ddof=1).mean() * (1 + 1 / 8) / len(some))
    assert abs(file.bound_nats / file.coded - nats.mean()) < 4 * error


def test_groups_grow_with_the_stack(coded):
    _, images, file = coded
    assert file.groups[0] == PLAIN
    assert max(file.groups) >= 8
    assert sum(group or 1 for group in file.groups) == len(images)


def test_a_payload_that_is_not_the_encoders_is_refused(coded):
    codec, _, file = coded
    with pytest.raises(UserError, match="altered"):
        codec.decode(file.payload, (*file.groups, 1))
    with pytest.raises(UserError, match="altered"):
        codec.decode(file.payload[:-1], file.groups)
    with pytest.raises(UserError, match="altered"):
        codec.decode(b"", (1,) * 5)


def test_draws_of_a_file_are_never_far_out(coded, monkeypatch):
    codec, images, file = coded
    seen, draw = [], BitStack.draw

    def watched(stack, gaussian, number):
        multiples = draw(stack, gaussian, number)
        seen.append((multiples * gaussian.grid - gaussian.mean) / gaussian.std)
        return multiples

    monkeypatch.setattr(BitStack, "draw", watched)
    assert codec.encode(images).payload == file.payload
    innovations = np.concatenate(seen)
    assert np.abs(innovations).max() < 6.0
    # The grid adds its own variance, (1/4)²/12 at most.
    excess, error = np.square(innovations).mean() - 1.0, np.sqrt(2 / innovations.size)
    assert -4 * error < excess < 1 / 192 + 4 * error


def test_measured_losses_shorten_the_bound_and_steps_reach_both_ends():
    model, parameters = random_model(PATHS[0])
    images = np.repeat(IMAGES, REPEATS, axis=0)
    found = losses.measured(model, parameters, images)
    assert losses.are_losses(found)
    gammas = losses.gammas(model, STEPS, found)
    assert (gammas[0], gammas[-1]) == (model.schedule.gamma_0, model.schedule.gamma_1)
    assert np.all(np.diff(gammas) > 0.0)
    files = [
        BitsBackCodec(LatentChain.over(model, STEPS, each, 0.25), parameters).encode(images)
        for each in (found, losses.ANCESTRAL)
    ]
    adapted, ancestral = (file.bound_nats / file.coded for file in files)
    assert adapted < ancestral


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_eight_steps_are_as_good_as_many_where_the_data_are_gaussian(path):
    """Then p(z_s|z_t) is a Gaussian, and the loss at t gives its variance."""
    count, levels, std = 500, 64, 0.2
    schedule = LinearSchedule(-2.0 * np.log(3.0187 * levels))
    network = ExactNetwork(path, schedule, VelocityPrediction())
    model = Model(path, schedule, VelocityPrediction(), network, Pixels((1, 4, 1), levels))
    data = {"weight": 1.0, "mean": np.zeros(4), "variance": np.full(4, std**2)}
    data = {name: np.float32([value]) for name, value in data.items()}
    data["rotation"] = np.eye(4, dtype=np.float32)
    x = np.random.default_rng(0).normal(scale=std, size=(count, 1, 4, 1))
    images = np.floor((np.clip(x, -0.999, 0.999) + 1.0) * levels / 2.0).astype(int)
    # Of z_0 by N(0, α²std² + σ²) against q(z_0|x): the network knows nothing of levels.
    alpha, sigma = (float(part(np.float32(schedule.gamma_0))) for part in (path.alpha, path.sigma))
    mean, variance = alpha * model.pixels.encode(images), alpha**2 * std**2 + sigma**2
    square = (np.square(mean) + sigma**2) / variance
    exact = 0.5 * np.sum(np.log(variance / sigma**2) + square - 1.0) / count

    found = losses.measured(model, data, images)
    adapted, ancestral = (
        BitsBackCodec(LatentChain.over(model, 8, each, 0.25), data).encode(images)
        for each in (found, losses.ANCESTRAL)
    )
    assert adapted.bound_nats / adapted.coded == pytest.approx(exact, rel=0.01)
    assert ancestral.bound_nats / ancestral.coded > 1.1 * exact


def test_as_many_first_bits_are_needed_wherever_the_short_steps_are():
    """The latent of a short step takes more bits than that of a long one before it gave back."""
    model, _ = random_model(PATHS[0])
    late = LatentChain.over(model, STEPS, bytes([0] * 7 + [64, 128]), 0.25)
    even = LatentChain.over(model, STEPS, losses.ANCESTRAL, 0.25)
    assert late.first_bits > even.first_bits + 0.5


def _group_of_each(groups):
    return [group for group in groups for _ in range(group or 1)]


def test_values_that_a_fitted_prior_ties_together_are_coded_one_after_another():
    model, parameters = random_model(PATHS[0])
    statistics = {
        "mean": jnp.full(model.pixels.shape, 0.2),
        "basis": jnp.asarray([[0.8, -0.6], [0.6, 0.8]]),
        "variance": jnp.asarray([0.5, 0.02]).reshape(model.pixels.shape),
    }
    model = dataclasses.replace(
        model,
        base=GaussianBase(FullCovariance()),
        prior=FittedPrior(),
        schedule=LinearSchedule(model.schedule.gamma_0, 0.0),
    ).bound({BASE: statistics})
    parameters = {**parameters, BASE: statistics}
    codec = BitsBackCodec(LatentChain.over(model, STEPS, losses.ANCESTRAL, 0.25), parameters)
    images = np.random.default_rng(0).permutation(np.repeat(IMAGES, 10, axis=0))
    file = codec.encode(images)
    assert np.array_equal(codec.decode(file.payload, file.groups), images)
    assert file.net_bits * np.log(2) == pytest.approx(file.bound_nats, rel=0.02)

    # The conditional densities of the last level make up the prior's.
    last = codec.chain.last(3)
    multiples = np.random.default_rng(1).integers(-9, 9, 3 * 2)
    found = sum(log_density(some * last.grid, g) for some, g in last.blocks(multiples))
    z = jnp.asarray(multiples * last.grid, jnp.float32).reshape(3, *model.pixels.shape)
    assert found == pytest.approx(float(model.prior_log_density(z).sum()), rel=1e-5)
