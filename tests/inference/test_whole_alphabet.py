"""Two pixels of four levels: there are sixteen images, and no bound may give them more than 1.

A network drawn at random, the exact trace, and every dequantisation. Where a bound is tight, as
that of uniform dequantisation is, the sum is the mass of the density over the bins.
"""

import dataclasses
import functools
import itertools
from dataclasses import dataclass, field
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.conditional_flow import ConditionalFlow
from diffusion_ode.diffusion.dequantization import (
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from diffusion_ode.diffusion.input_scaling import AsItIs, UnitVariance
from diffusion_ode.diffusion.learned_schedule import SCHEDULE, LearnedMonotoneSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.polynomial_schedule import PolynomialSchedule
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.sub_variance_preserving import SubVariancePreserving
from diffusion_ode.diffusion.time_sampling import DiscreteTimes
from diffusion_ode.diffusion.variance_exploding import VarianceExploding
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks, SummedWeights
from diffusion_ode.inference.draw_combination import (
    AveragedDraws,
    ImportanceWeighted,
    check_draws,
)
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.tasks.dequantizer import LearnedDequantization
from tests.crossed import crossed
from tests.gaussian_oracle import name_of

SHAPE, LEVELS = (1, 2, 1), 4
GAMMA_0 = -2.0 * np.log(3.0187 * LEVELS)  # bins as far apart as for 256 levels at γ0 = −13.3
DRAWS = 48
IMAGES = np.asarray(list(itertools.product(range(LEVELS), repeat=2))).reshape(-1, *SHAPE)
DEQUANTIZATIONS = [
    UniformDequantization(),
    VariationalDequantization(),
    TruncatedNormalDequantization(),
]
PATHS = [VariancePreserving(), StraightPath()]
SCORE_ODE = [SubVariancePreserving(), VarianceExploding()]
LINEAR = LinearSchedule(GAMMA_0, 5.0)
LEARNED = [LearnedMonotoneSchedule(features=4), PolynomialSchedule()]
FLOW = ConditionalFlow(features=4, couplings=2, components=2)


class RandomNetwork(nn.Module):
    """Two layers over both pixels, far from linear; the z added draws the data into the bins."""

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic=True):
        del flag, sigma, deterministic
        features = jnp.concatenate([z.reshape(z.shape[0], -1), time[:, None]], axis=1)
        hidden = nn.tanh(nn.Dense(16)(2.0 * features))
        return z + 0.5 * nn.Dense(2)(hidden).reshape(z.shape)


@dataclass(frozen=True)
class Kept:
    """Keeps the log-weights of every image that it combines."""

    exponentiates: ClassVar[bool] = False
    log_weights: list = field(default_factory=list, compare=False)

    def __call__(self, log_weights):
        self.log_weights.append(log_weights)
        return float(np.mean(log_weights))


class RandomFlow(LearnedDequantization):
    """A learned one whose flow is drawn at random, and so another for each image."""

    def _newest(self, model):
        return FLOW, flow_parameters(), ""


@functools.cache
def flow_parameters():
    image, numbers = jnp.zeros((1, *SHAPE)), np.random.default_rng(5)
    parameters = jax.tree.map(
        lambda p: np.asarray(p) + numbers.normal(scale=0.1, size=p.shape).astype(np.float32),
        FLOW.init(jax.random.key(0), image, image)["params"],
    )
    for i in range(FLOW.couplings):  # wide, so that the bins' edges are not left out
        parameters[f"coupling{i}"]["bias"][-2] += 1.5
    return parameters


def random_model(path, schedule=LINEAR):
    """With every number of a learned schedule moved, its ends inwards by a half."""
    pixels = Pixels(SHAPE, LEVELS)
    scaling = UnitVariance() if path == VarianceExploding() else AsItIs()
    model = Model(path, schedule, VelocityPrediction(), RandomNetwork(), pixels, scaling)
    parameters = model.init(jax.random.key(7))
    if SCHEDULE in parameters:
        numbers = np.random.default_rng(4)
        shape = jax.tree.map(
            lambda leaf: leaf + numbers.normal(size=leaf.shape).astype(np.float32),
            parameters[SCHEDULE]["shape"],
        )
        ends = {"b": jnp.float32(GAMMA_0 + 0.5), "w": jnp.float32(4.0 - GAMMA_0)}
        parameters = {**parameters, SCHEDULE: {"shape": shape, "ends": ends}}
    return model.bound(parameters), parameters


def likelihood(dequantization, controller=None, **options):
    return OdeLikelihood(
        dequantization,
        controller=controller or PIController(1e-3, 1e-3, 1e-4),
        divergence=ExactTrace(),
        lanes=256,
        **options,
    )


def log_weights(path, dequantization, schedule=LINEAR, draws=DRAWS):
    """[16, draws]: log p0(z) − log q(z|k)."""
    model, parameters = random_model(path, schedule)
    kept = Kept()
    ode = likelihood(dequantization, combination=kept)
    results = ode.of_images(
        model, parameters, enumerate(IMAGES), jax.random.key(1), num_importance=draws
    )
    assert all(result.converged for result in results)
    return np.asarray(kept.log_weights)


ALPHABETS = [
    *crossed(PATHS + SCORE_ODE, DEQUANTIZATIONS, [LINEAR]),
    *crossed([PATHS[0], SCORE_ODE[1]], [RandomFlow("")], [LINEAR]),
    *crossed(PATHS, DEQUANTIZATIONS[2:], LEARNED),
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(each.values, marks=each.marks) for each in ALPHABETS],
    ids=lambda values: "-".join(map(name_of, values)),
)
def alphabet(request):
    return request.param


@pytest.fixture(scope="module")
def weights(alphabet):
    return log_weights(*alphabet)


def test_all_images_together_have_a_probability_of_at_most_one(weights, alphabet):
    assert weights.shape == (16, DRAWS)
    assert np.sum(np.exp(weights.mean(axis=1))) <= 1.0
    estimates = np.exp(weights)
    error = np.sqrt(np.sum(estimates.var(axis=1)) / DRAWS)
    total = np.sum(estimates.mean(axis=1))
    assert total <= 1.0 + 3 * error
    # So that a lost log K or log 2 would be noticed; where noise explodes, draws vary by 0.150.
    path, dequantization, schedule = alphabet
    even = path in PATHS and dequantization in DEQUANTIZATIONS and schedule == LINEAR
    assert error < (0.1 if even else 0.2)


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_equal_weights_weigh_what_one_of_them_does(count):
    assert ImportanceWeighted()(np.full(count, -3.25)) == pytest.approx(-3.25, rel=1e-12)
    assert ImportanceWeighted()(np.log([0.1, 0.3])) == pytest.approx(np.log(0.2), rel=1e-12)


@pytest.mark.parametrize(("path", "dequantization"), crossed(PATHS, DEQUANTIZATIONS), ids=name_of)
def test_three_draws_of_each_image_give_all_together_at_most_one(path, dequantization):
    # By the likelihood's own combination: without − log K the total would be three times as much.
    model, parameters = random_model(path)
    repeated = enumerate(np.concatenate([IMAGES] * 24))
    results = list(
        likelihood(dequantization).of_images(
            model, parameters, repeated, jax.random.key(9), num_importance=3
        )
    )
    assert all(result.converged for result in results)
    log_likelihoods = {result.index: result.log_likelihood for result in results}
    estimates = np.exp([log_likelihoods[number] for number in range(24 * 16)]).reshape(24, 16)
    error = np.sqrt(np.sum(estimates.var(axis=0, ddof=1)) / 24)
    total = np.sum(estimates.mean(axis=0))
    assert total <= 1.0 + 3 * error
    assert error < 0.2
    assert 3 * total > 1.0 + 3 * error  # so that it would be noticed


@pytest.mark.parametrize(
    ("dequantization", "schedule", "draws"),
    [
        *((UniformDequantization(), each, DRAWS) for each in (LINEAR, *LEARNED)),
        (RandomFlow(""), LINEAR, 5 * DRAWS),
    ],
    ids=name_of,
)
def test_places_all_over_the_bins_miss_only_what_lies_outside_them(dequantization, schedule, draws):
    # So the bound above is not met by being loose: a log 2 too much would be over it, and the flow
    # without its log q is, at 1.21.
    weights = log_weights(PATHS[0], dequantization, schedule, draws)
    assert 0.8 < np.sum(np.exp(weights).mean(axis=1)) < 1.1


def bounds(weights, count):
    """The mean over disjoint groups of the bound with that many draws: [16]."""
    groups = weights.reshape(16, -1, count)
    return np.mean([[ImportanceWeighted()(w) for w in image] for image in groups], axis=1)


def test_more_draws_never_lower_the_bound_in_expectation_and_one_is_the_plain_bound(weights):
    assert np.allclose(bounds(weights, 1), weights.mean(axis=1))
    values = [bounds(weights, count) for count in (1, 2, 4, 8, 16, 48)]
    for fewer, more in itertools.pairwise(values):
        assert np.all(more >= fewer - 1e-12)


def test_published_sum_of_weights_is_no_probability():
    model, parameters = random_model(PATHS[0])
    published = likelihood(UniformDequantization(), combination=SummedWeights())
    results = list(
        published.of_images(
            model, parameters, enumerate(IMAGES), jax.random.key(1), num_importance=3
        )
    )
    assert np.sum(np.exp([result.log_likelihood for result in results])) > 1.5
    assert {result.converged for result in results} == {True}


def test_an_image_is_judged_alike_whatever_others_are_judged_with_it():
    """Fewer lanes round otherwise, which steps by tolerance would amplify: up to that tolerance."""
    model, parameters = random_model(PATHS[0])
    ode = likelihood(TruncatedNormalDequantization(), controller=FixedSteps(50))

    def judged(indices, count):
        images = ((i, IMAGES[i]) for i in indices)
        results = ode.of_images(model, parameters, images, jax.random.key(2), num_importance=count)
        return {result.index: result.log_likelihood for result in results}

    together, alone = judged(range(16), 3), judged([11], 3)
    # Log-densities near 20 nats, summed in float32: a few units in the last place.
    assert alone[11] == pytest.approx(together[11], abs=1e-5)


# Only log P(k) ≥ −E[bound] is promised, by Jensen, so exp of the *mean* is what may be summed. The
# mean of exp(−bound) over draws may exceed P(k): the diffusion term of a draw is a Monte Carlo
# estimate of an integral, not minus the logarithm of an unbiased weight.
@pytest.mark.parametrize(
    ("path", "schedule", "times"),
    [
        *crossed(PATHS + SCORE_ODE, [LINEAR], [None, DiscreteTimes(20)]),
        *crossed(PATHS[:1], LEARNED[:1], [None, DiscreteTimes(20)]),
    ],
    ids=name_of,
)
def test_variational_bound_gives_all_images_together_at_most_one(path, schedule, times):
    model, parameters = random_model(path, schedule)
    options = {} if times is None else {"times": times}
    bound = VariationalBound(draws=8, **options)
    repeated = jnp.asarray(np.repeat(IMAGES, 200, axis=0), jnp.int32)
    keys = jax.random.split(jax.random.key(3), len(repeated))
    nats = np.asarray(bound.terms(model, parameters, repeated, keys).total).reshape(16, 200)
    assert np.sum(np.exp(-nats.mean(axis=1))) <= 1.0


def test_closed_form_and_sampled_entropies_agree_in_the_mean_and_may_not_be_weighted():
    model, _ = random_model(PATHS[1])
    levels = jnp.asarray(np.repeat(IMAGES[5:6], 20_000, axis=0), jnp.int32)
    keys = jax.random.split(jax.random.key(4), len(levels))
    for sampled in DEQUANTIZATIONS[1:]:
        closed = dataclasses.replace(sampled, closed_form_entropy=True)
        noise = jax.vmap(lambda key, d=sampled: d.draw(model, key))(keys)
        difference = sampled.start(model, levels, noise).log_weight
        difference -= closed.start(model, levels, noise).log_weight
        spread = np.std(difference) / np.sqrt(len(levels))
        assert abs(np.mean(difference)) < 4 * spread
        with pytest.raises(UserError, match="closed_form_entropy = True"):
            check_draws(closed, ImportanceWeighted(), 2)
        check_draws(closed, ImportanceWeighted(), 1)
        check_draws(closed, AveragedDraws(), 5)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: check_draws(DEQUANTIZATIONS[0], ImportanceWeighted(), 0), "num_importance = 0"),
        (lambda: VariationalBound(draws=0), "draws = 0"),
        (lambda: OdeLikelihood(lanes=0), "lanes = 0"),
    ],
)
def test_impossible_numbers_are_refused_with_a_remedy(act, words):
    with pytest.raises(UserError, match=words):
        act()


def test_quirks_are_off_by_default_and_then_change_nothing():
    off, ode, bound = ReferenceQuirks(), OdeLikelihood(), VariationalBound()
    assert not any(dataclasses.asdict(off).values())
    assert all(dataclasses.asdict(ReferenceQuirks.all()).values())
    assert off.likelihood(ode, 1) == (ode, 1)
    assert off.likelihood(ode, 20) == (ode, 20)
    assert off.bound(bound) == bound


def test_published_uniform_start_is_refused_where_the_schedule_does_not_reach():
    model, _ = random_model(PATHS[0])
    ode, _ = ReferenceQuirks.all().likelihood(OdeLikelihood(UniformDequantization()), 20)
    with pytest.raises(UserError, match="unscaled_uniform starts at γ"):
        ode.dequantization.gamma(model)
