"""The training step: one optimiser step, however its batch is divided."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.learned_schedule import SCHEDULE, LearnedMonotoneSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.time_sampling import AdaptiveTimes, UniformTimes
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.diffusion.weighting import Weighting
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.objective import LossTerms
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.randomness import stream_key
from diffusion_ode.training import step as training_step
from diffusion_ode.training.optimizer import AdamW, Moment, NotBiases, WarmedUp, WarmedUpThenCosine
from diffusion_ode.training.state import initial_state
from diffusion_ode.training.step import ExponentialAverage, make_train_step
from tests.small_network import SmallNetwork

LEVELS = 17
MODEL = Model(
    VariancePreserving(),
    LinearSchedule(-7.88),
    VelocityPrediction(),
    SmallNetwork(),
    Pixels((4, 4, 1), LEVELS),
)
OPTIMIZER = AdamW(WarmedUp(peak=1e-2, warmup_steps=2))


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).integers(0, LEVELS, (8, 4, 4, 1), dtype=np.uint8)
    return {"image": jnp.asarray(images), "flag": jnp.zeros(8)}


def stepped(batch, *, model=MODEL, objective=None, accumulation=1, steps=1, average=None):
    objective = objective or FlowMatching()
    step = jax.jit(
        make_train_step(
            model,
            objective,
            OPTIMIZER,
            average or ExponentialAverage(0.5),
            num_steps=10,
            accumulation=accumulation,
        )
    )
    state = initial_state(model, objective, OPTIMIZER, jax.random.key(0))
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


@pytest.fixture(scope="module")
def two_steps(batch):
    return stepped(batch, steps=2)


@pytest.mark.parametrize("loops_are_fast", [False, True])
def test_accumulated_step_equals_the_whole_one_and_counts_once(
    batch, two_steps, loops_are_fast, monkeypatch
):
    monkeypatch.setattr(training_step, "loops_are_fast", lambda: loops_are_fast)
    whole, whole_metrics = two_steps
    parts, parts_metrics = stepped(batch, accumulation=4, steps=2)
    assert int(parts.step) == int(whole.step) == 2
    assert whole_metrics["bpd"] == pytest.approx(float(parts_metrics["bpd"]), rel=1e-5)
    for one, other in zip(
        jax.tree.leaves(whole.parameters), jax.tree.leaves(parts.parameters), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_a_learned_schedule_is_learned_alike_however_the_batch_is_divided(batch):
    schedule = LearnedMonotoneSchedule(-7.88, features=4)
    learned = dataclasses.replace(MODEL, schedule=schedule)
    uniform = FlowMatching(UniformTimes())
    whole, parts = (
        stepped(batch, model=learned, objective=uniform, accumulation=n)[0] for n in (1, 4)
    )
    moments = [state.optimizer[0].mu[SCHEDULE] for state in (whole, parts)]
    for one, other in zip(*map(jax.tree.leaves, moments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-7)
        assert np.any(one != 0.0)


@dataclasses.dataclass(frozen=True)
class Chance(FlowMatching):
    """What is watched is what chance gave: γ, ε, and what dropout draws."""

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        terms = super().loss(model, parameters, images, flag, draws, dropout_key)
        noise, dropped = draws.noise.sum((1, 2, 3)), jax.random.uniform(dropout_key, flag.shape)
        return LossTerms(terms.loss, {"gamma": draws.gamma, "noise": noise, "dropout": dropped})


def test_every_step_draws_its_own_times_noise_and_dropout(batch):
    one, two = (stepped(batch, objective=Chance(), steps=n)[1] for n in (1, 2))
    for drawn in ("gamma_bpd", "noise_bpd", "dropout_bpd"):
        assert float(one[drawn]) != float(two[drawn])


def test_average_moves_by_its_decay_after_every_optimiser_step(batch, two_steps):
    one, _ = stepped(batch, steps=1)
    two, _ = two_steps
    for before, parameter, after in zip(
        *(jax.tree.leaves(tree) for tree in (one.ema, two.parameters, two.ema)), strict=True
    ):
        np.testing.assert_allclose(after, before + 0.5 * (parameter - before), atol=1e-6)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (1000, 0.9)])
def test_a_warmed_up_average_forgets_its_beginning(step, decay):
    average = ExponentialAverage(0.9, warmup=True)
    moved = average.update({"a": jnp.zeros(())}, {"a": jnp.ones(())}, jnp.int32(step))
    assert float(moved["a"]) == pytest.approx(1.0 - decay)


def test_first_order_step_never_computes_the_reconstruction_softmax(batch):
    state = initial_state(MODEL, FlowMatching(), OPTIMIZER, jax.random.key(0))

    def shapes(objective):
        step = make_train_step(
            MODEL, objective, OPTIMIZER, ExponentialAverage(), num_steps=10, accumulation=1
        )
        return re.findall(r"\[([\d,]+)\]", str(jax.make_jaxpr(step)(state, batch)))

    # A softmax over the levels would need an array whose last axis has their number.
    assert not [shape for shape in shapes(FlowMatching()) if shape.split(",")[-1] == str(LEVELS)]


def test_reported_variance_is_that_of_the_images_losses_in_bits_per_dimension(batch):
    _, metrics = stepped(batch)
    objective = FlowMatching()
    state = initial_state(MODEL, objective, OPTIMIZER, jax.random.key(0))
    images = batch["image"].astype(jnp.int32)
    draws = objective.draw(MODEL, images, stream_key(0, "objective", state.step), state.times)
    dropout = stream_key(0, "dropout", state.step)
    nats = objective.loss(MODEL, state.parameters, images, batch["flag"], draws, dropout).loss
    bits = np.asarray(nats, np.float64) / (16 * np.log(2.0))
    assert np.var(bits) > 0.0
    assert float(metrics["loss_variance"]) == pytest.approx(np.var(bits), rel=1e-4)
    assert float(metrics["bpd"]) == pytest.approx(np.mean(bits), rel=1e-4)


def test_second_order_step_reports_its_parts(batch):
    state, metrics = stepped(batch, objective=SecondOrderFlowMatching())
    assert float(metrics["weighted_loss"]) / np.log(2.0) == pytest.approx(
        float(metrics["bpd"]) + 0.1 * float(metrics["second_order_bpd"]), rel=1e-5
    )
    assert int(state.step) == 1


def test_a_weighted_step_minimises_its_loss_and_reports_the_bound_s_bits(batch):
    _, plain = stepped(batch)
    _, halved = stepped(batch, objective=FlowMatching(weighting=Half()))
    assert float(halved["bpd"]) == pytest.approx(float(plain["bpd"]), rel=1e-6)
    loss = 0.5 * float(plain["bpd"]) * np.log(2.0)
    assert float(halved["weighted_loss"]) == pytest.approx(loss, rel=1e-6)
    assert float(halved["gradient_norm"]) == pytest.approx(
        0.5 * float(plain["gradient_norm"]), rel=1e-4
    )
    assert "weighted_loss" not in plain


def test_adaptive_times_learn_within_the_step(batch):
    state, _ = stepped(batch, objective=FlowMatching(AdaptiveTimes(bins=4)), steps=2)
    assert float(state.times.count.sum()) > 0.0
    assert bool(jnp.all(jnp.isfinite(state.times.second_moment)))


class Half(Weighting):
    """Half of everything."""

    def weight(self, path, schedule, gamma):
        return jnp.full_like(gamma, 0.5)


@dataclasses.dataclass(frozen=True)
class Watched(FlowMatching):
    """What is watched has two values an image, and nothing is taught."""

    def loss(self, *arguments):
        terms = super().loss(*arguments)
        return LossTerms(terms.loss, {"both": jnp.stack([terms.loss, 3.0 * terms.loss], axis=1)})


def test_parts_may_have_any_shape_and_without_an_integrand_times_learn_nothing(batch):
    state, metrics = stepped(batch, objective=Watched(AdaptiveTimes(bins=4)), accumulation=2)
    assert float(metrics["both_bpd"]) == pytest.approx(2.0 * float(metrics["bpd"]), rel=1e-5)
    assert float(state.times.count.sum()) == 0.0


def test_weight_decay_spares_biases():
    decayed = NotBiases()({"conv": {"kernel": 1, "bias": 2}, "norm": {"scale": 3, "bias": 4}})
    assert decayed == {
        "conv": {"kernel": True, "bias": False},
        "norm": {"scale": True, "bias": False},
    }


def test_learning_rates_warm_up_and_know_where_a_run_began():
    at = lambda rate, step, first: float(rate.at(Moment(jnp.int32(step), jnp.int32(first), 100)))  # noqa: E731
    published = WarmedUp(peak=2e-4, warmup_steps=100, start=1e-8)
    assert at(published, 0, 0) == pytest.approx(1e-8)
    assert at(published, 50, 0) == pytest.approx(1e-4, rel=1e-3)
    assert at(published, 6_000_000, 6_000_000) == pytest.approx(2e-4)

    cosine = WarmedUpThenCosine(peak=1e-3, warmup_steps=10, end=1e-5)
    assert at(cosine, 5, 0) == pytest.approx(5e-4)
    assert at(cosine, 10, 0) == pytest.approx(1e-3)
    assert at(cosine, 100, 0) == pytest.approx(1e-5)
    assert at(cosine, 1055, 1000) == at(cosine, 55, 0)
