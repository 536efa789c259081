"""Learned schedules: their form, what they leave as it is, and the gradients that they learn by."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.learned_schedule import (
    SCHEDULE,
    LearnedMonotoneSchedule,
    LearnedScalarSchedule,
)
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.normal_times import NormalTimes
from diffusion_ode.diffusion.parameterization import NoisePrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.time_sampling import (
    AdaptiveState,
    AdaptiveTimes,
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.training.optimizer import AdamW
from diffusion_ode.training.schedule_gradient import schedule_gradient, with_times
from diffusion_ode.training.state import state_around
from diffusion_ode.training.step import ExponentialAverage, make_train_step
from tests.gaussian_oracle import PATHS, name_of
from tests.small_network import SmallNetwork

TIME = jnp.linspace(0.0, 1.0, 33)
SHAPE, LEVELS, COUNT = (2, 2, 1), 4, 512
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, LEVELS, (COUNT, *SHAPE)), jnp.int32)


def bent(parameters, by=3.0):
    """With a shape that is far from a line."""
    if "shape" not in parameters:
        return parameters
    shape = parameters["shape"]
    steep = {**shape["l2"], "kernel": 10.0 * jnp.ones_like(shape["l2"]["kernel"])}
    return {**parameters, "shape": {**shape, "l2": steep, "l3": by * jnp.ones_like(shape["l3"])}}


def model_of(schedule, path=PATHS[0], network=None):
    network = SmallNetwork(2) if network is None else network
    return Model(path, schedule, NoisePrediction(), network, Pixels(SHAPE, LEVELS))


@pytest.mark.parametrize("schedule", [LearnedScalarSchedule(-6.0), LearnedMonotoneSchedule(-6.0)])
def test_it_grows_from_end_to_end_and_starts_as_almost_a_line(schedule, strict):
    fresh = schedule.init(jax.random.key(0))
    gamma = np.asarray(schedule.of(fresh).gamma(TIME))
    np.testing.assert_allclose(gamma, -6.0 + 11.0 * np.asarray(TIME), atol=0.2)
    ends = {"w": jnp.float32(-9.0), "b": jnp.float32(-7.0)}  # the width is |w|
    trained = schedule.of({**bent(fresh), "ends": ends})
    gamma = np.asarray(trained.gamma(TIME))
    assert np.all(np.diff(gamma) > 0.0)
    np.testing.assert_allclose(gamma[[0, -1]], [-7.0, 2.0], atol=1e-5)
    assert (trained.gamma_0, trained.gamma_1) == (-7.0, 2.0)
    # The network is told where γ lies between the configured ends.
    np.testing.assert_allclose(trained.network_time(jnp.float32(-0.5)), 0.5)


def test_trained_schedules_are_equal_where_their_numbers_are():
    schedule = LearnedMonotoneSchedule(features=8)
    fresh = schedule.init(jax.random.key(0))
    assert schedule.of(fresh) == schedule.of(jax.tree.map(jnp.copy, fresh))
    assert hash(schedule.of(fresh)) == hash(schedule.of(jax.tree.map(jnp.copy, fresh)))
    assert schedule.of(fresh) != schedule.of(bent(fresh))


def test_the_bound_does_not_depend_on_the_interior():
    """To 1e-5: integrated over t under a straight and a bent γ(t) with the same ends."""
    model = model_of(LearnedMonotoneSchedule(-6.0, 5.0, learn_ends=False, features=8))
    parameters = model.init(jax.random.key(0))
    x, noise = model.pixels.encode(IMAGES[:1]), jax.random.normal(jax.random.key(1), (1, *SHAPE))

    @jax.jit
    def bound(parameters):
        node, weight = np.polynomial.legendre.leggauss(400)
        schedule = model.bound(parameters).schedule
        time = jnp.asarray(0.5 * (node + 1.0), jnp.float32)
        gamma, rate = schedule.gamma(time), schedule.derivative(time)
        many = [jnp.repeat(a, len(time), axis=0) for a in (x, noise)]
        z = model.noised(many[0], gamma, many[1])
        output = model.predict(parameters, z, gamma, jnp.zeros_like(gamma))
        error = jnp.sum((output - many[1]) ** 2, axis=(1, 2, 3))
        return jnp.sum(0.5 * rate * error * (0.5 * weight))

    straight = {**parameters, SCHEDULE: model.schedule.init(jax.random.key(0))}
    curved = {**parameters, SCHEDULE: bent(straight[SCHEDULE], by=5.0)}
    early = jnp.float32(0.25)
    gammas = [float(model.bound(p).schedule.gamma(early)) for p in (straight, curved)]
    assert abs(gammas[0] - gammas[1]) > 0.5
    np.testing.assert_allclose(bound(curved), bound(straight), rtol=1e-5)


def test_the_loss_with_learned_ends_is_in_the_mean_the_whole_bound():
    """`VariationalBound` adds its terms by itself: each is far above what chance makes of them."""
    schedule = LearnedMonotoneSchedule(-4.0, 4.0, features=4)
    model, objective, many = model_of(schedule), FlowMatching(), jnp.tile(IMAGES, (16, 1, 1, 1))
    parameters = model.init(jax.random.key(0))
    ends = {"w": jnp.float32(3.0), "b": jnp.float32(-2.5)}
    parameters[SCHEDULE] = {**bent(parameters[SCHEDULE]), "ends": ends}
    bound = model.bound(parameters)
    draws = objective.draw(bound, many, jax.random.key(1), ())
    loss = objective.loss(bound, parameters, many, jnp.zeros(len(many)), draws, None).loss
    keys = jax.random.split(jax.random.key(2), len(many))
    terms = VariationalBound(draws=2).terms(model, parameters, many, keys)
    error = np.hypot(np.std(loss), np.std(terms.total)) / np.sqrt(len(many))
    assert 10.0 * error < min(np.mean(term) for term in terms)
    assert abs(np.mean(loss) - np.mean(terms.total)) < 4.0 * error


def gradient_and_moments(model, times, state=()):
    """The gradient of the schedule's parameters, and the means that it should be of."""
    objective = FlowMatching(times)

    def draw(eta):
        parameters = {**network, SCHEDULE: eta}
        return objective.draw(model.bound(parameters), IMAGES, jax.random.key(2), state)

    def terms_of(parameters, draws):
        bound = model.bound(parameters)
        return objective.loss(bound, parameters, IMAGES, jnp.zeros(COUNT), draws, None)

    def loss(parameters, part, key):
        del key
        terms = terms_of(parameters, part["draws"])
        return jnp.mean(terms.loss) / 4.0, terms

    network = model.init(jax.random.key(0))
    eta = bent(network[SCHEDULE], by=1.0)
    parameters = {**network, SCHEDULE: eta}

    @jax.jit
    def gradient():
        of_network, (terms, by_times) = with_times(loss)(parameters, {"draws": draw(eta)}, None)
        return schedule_gradient(
            model.schedule, draw, eta, of_network[SCHEDULE], terms, by_times, 4
        )

    def moment(eta, power):
        terms = terms_of({**network, SCHEDULE: eta}, draw(eta))
        return jnp.mean((terms.loss / 4.0) ** power)

    return gradient(), eta, jax.jit(moment, static_argnums=1)


def finite_difference(function, tree, path, step=2e-2):
    """Along all elements of one leaf."""

    def moved(by):
        moves = lambda at, leaf: leaf + by if jax.tree_util.keystr(at) == path else leaf  # noqa: E731
        return float(function(jax.tree_util.tree_map_with_path(moves, tree)))

    return (moved(step) - moved(-step)) / (2.0 * step)


def check_gradients(model, times, powers, state=()):
    """Of every number of the schedule: the difference of E[(L/N)^power]."""
    gradient, eta, moment = gradient_and_moments(model, times, state)
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    assert {jax.tree_util.keystr(at) for at, _ in leaves} == set(powers)
    for at, leaf in leaves:
        path = jax.tree_util.keystr(at)
        expected = finite_difference(lambda e, p=powers[path]: moment(e, p), eta, path)
        assert abs(expected) > 1e-4, "or a gradient of nothing would do"
        assert float(jnp.sum(leaf)) == pytest.approx(expected, rel=2e-3, abs=2e-5), path


ENDS = {"['ends']['w']": 1, "['ends']['b']": 1}
UNEVEN = AdaptiveState(jnp.asarray([1.0, 9.0, 4.0, 25.0]), jnp.ones(4))


@pytest.mark.parametrize(
    ("times", "power"), [(UniformTimes(), 2), (UniformTimes(), 1), (DiscreteTimes(8), 1)], ids=str
)
def test_gradients_of_ends_and_interior_are_finite_differences(times, power):
    """The ends' of the bound, the interior's of E[(L/N)²] or of the bound, such as of T steps."""
    schedule = LearnedMonotoneSchedule(-4.0, 4.0, by_variance=power == 2, features=4)
    shape = ("['l1']", "['l2']['bias']", "['l2']['kernel']", "['l3']")
    powers = {f"['shape']{name}": power for name in shape}
    check_gradients(model_of(schedule), times, ENDS | powers)


@pytest.mark.parametrize(
    ("path", "times", "state"),
    [
        (PATHS[0], ImportanceSampledTimes(), ()),
        (PATHS[1], ImportanceSampledTimes(), ()),
        (PATHS[3], ImportanceSampledTimes(), ()),
        (PATHS[0], NormalTimes(-1.0, 2.0), ()),
        (PATHS[0], AdaptiveTimes(bins=4), UNEVEN),
    ],
    ids=name_of,
)
def test_gradients_of_ends_under_times_of_their_own_are_finite_differences(path, times, state):
    """The times and their density follow the ends, by each path's own inverse of ∫α² dγ."""
    check_gradients(model_of(LearnedScalarSchedule(-4.0, 4.0), path), times, ENDS, state)


@dataclasses.dataclass(frozen=True)
class LinearDenoiser:
    """The best linear one for these images on the variance-preserving path; nothing to learn."""

    def init(self, key, *args):
        return {"params": {}}

    def apply(self, variables, z, time, flag, sigma, *, deterministic=True, rngs=None):
        sigma = sigma.reshape(-1, 1, 1, 1)
        return sigma * z / ((1.0 - sigma**2) * IMAGE_VARIANCE + sigma**2)


IMAGE_VARIANCE = float(np.var(Pixels(SHAPE, LEVELS).encode(IMAGES)))


def test_training_lowers_the_variance_and_leaves_the_bound():
    """By steps as they are taken, from the linear schedule on, whose loss varies most of all."""
    schedule = LearnedMonotoneSchedule(-6.0, 5.0, learn_ends=False, features=64)
    model, objective = model_of(schedule, network=LinearDenoiser()), FlowMatching(UniformTimes())
    optimizer, number = AdamW(learning_rate=3e-2, weight_decay=0.0), 150
    step = make_train_step(model, objective, optimizer, ExponentialAverage(), num_steps=number)
    batch = {"image": IMAGES, "flag": jnp.zeros(COUNT)}

    @jax.jit
    def trained(state):
        return jax.lax.fori_loop(0, number, lambda _, state: step(state, batch)[0], state)

    @jax.jit
    def mean_and_variance(parameters):
        bound, many = model.bound(parameters), jnp.tile(IMAGES, (64, 1, 1, 1))
        draws = objective.draw(bound, many, jax.random.key(3), ())
        loss = objective.loss(bound, parameters, many, jnp.zeros(len(many)), draws, None).loss
        return jnp.mean(loss), jnp.var(loss)

    begun = state_around(model.init(jax.random.key(0)), objective, optimizer)
    linear = LinearSchedule(-6.0, 5.0)
    drawn = schedule.of(begun.parameters[SCHEDULE]).gamma(TIME)
    np.testing.assert_allclose(drawn, linear.gamma(TIME), atol=0.1)
    (mean, variance), (mean_after, after) = (
        map(float, mean_and_variance(parameters))
        for parameters in (begun.parameters, trained(begun).parameters)
    )
    assert mean_after == pytest.approx(mean, rel=0.02)
    assert after < 0.7 * variance


def test_the_bound_of_a_whole_alphabet_sums_to_at_most_one_under_a_trained_schedule():
    model = model_of(LearnedMonotoneSchedule(-5.0, 4.0, features=8))
    model = dataclasses.replace(model, pixels=Pixels((1, 2, 1), 4))
    parameters = model.init(jax.random.key(0))
    ends = {"w": jnp.float32(7.0), "b": jnp.float32(-4.0)}
    parameters[SCHEDULE] = {**bent(parameters[SCHEDULE]), "ends": ends}
    alphabet = jnp.asarray(np.indices((4, 4)).reshape(2, 16).T.reshape(16, 1, 2, 1), jnp.int32)
    bound = VariationalBound(draws=64, times=UniformTimes())
    totals = [
        bound.terms(model, parameters, alphabet, jax.random.split(jax.random.key(seed), 16)).total
        for seed in range(4)
    ]
    assert 0.05 < float(jnp.sum(jnp.exp(-jnp.mean(jnp.stack(totals), axis=0)))) <= 1.0
