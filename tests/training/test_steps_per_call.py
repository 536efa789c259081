"""Several optimiser steps in one call, and what chance gives to each of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.pipeline import Data
from data.sources.digits import Digits
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.objective import LossTerms
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.optimizer import AdamW, WarmedUp
from diffusion_ode.training.program import CompiledStep, TrainProgram
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.state import initial_state
from diffusion_ode.training.step import ExponentialAverage, make_train_step
from diffusion_ode.training.step_metrics import BITS_BY_TIME, bits_by_time
from tests.small_network import SmallNetwork

BATCH = 4
IMAGES = np.random.default_rng(0).integers(0, 17, (4, BATCH, 4, 4, 1), dtype=np.uint8)
MODEL = Model(
    StraightPath(),
    LinearSchedule(-7.88),
    VelocityPrediction(),
    SmallNetwork(dropout=0.3),
    Pixels((4, 4, 1), 17),
)


def trained(steps_per_call):
    """Metrics of four steps, each an array over them, and the state after the last."""
    program = TrainProgram(
        model=MODEL,
        objective=FlowMatching(),
        optimizer=AdamW(WarmedUp(1e-2, warmup_steps=2)),
        average=ExponentialAverage(0.9),
        placement=Mesh(data=1).build(),
        num_steps=len(IMAGES),
        batch_size=BATCH,
        accumulation=1,
        seed=0,
        steps_per_call=steps_per_call,
    )
    # As users' programs are compiled: without optimisation a step's rounding depends on the others.
    compiled = program.lower_step().compile({"xla_backend_optimization_level": 3})
    step = CompiledStep(compiled, program._numbers, 0.0)
    state, seen = program.fresh_state(), []
    batches = [{"image": images, "flag": np.zeros(BATCH, np.float32)} for images in IMAGES]
    for i in range(0, len(batches), steps_per_call):
        state, metrics = step(state, program.place(*batches[i : i + steps_per_call]))
        seen.append(jax.tree.map(np.asarray, metrics))
    gather = np.stack if steps_per_call == 1 else np.concatenate
    return jax.tree.map(lambda *a: gather(a), *seen), state


@pytest.fixture(scope="module")
def one_by_one():
    return trained(1)


def test_steps_in_one_call_are_bit_for_bit_those_taken_one_by_one(one_by_one):
    metrics, state = one_by_one
    together, state_together = trained(2)
    np.testing.assert_array_equal(together["bpd"], metrics["bpd"])
    jax.tree.map(np.testing.assert_array_equal, state_together.parameters, state.parameters)
    assert int(state_together.step) == int(state.step) == 4


def test_a_step_tells_the_gradient_of_each_group_and_how_far_it_goes(one_by_one):
    metrics, _ = one_by_one
    groups = [metrics[f"gradient_norm/{name}"] for name in ("Conv", "Dense")]
    np.testing.assert_allclose(np.hypot(*groups), metrics["gradient_norm"], rtol=1e-5)
    # Adam moves each parameter by about its rate: at first 1e-8, then half of the peak, then all.
    assert metrics["update_to_weight"][0] < 1e-5 < metrics["update_to_weight"][1]


def test_bits_by_time_are_the_integrands_share_of_each_bin(one_by_one):
    metrics, _ = one_by_one
    binned = metrics[BITS_BY_TIME].sum(0)
    assert binned[1].sum() == IMAGES.shape[0] * BATCH
    filled = np.stack([np.full(5, 3.0 * 7), np.full(5, 7.0)])  # seven images, an integrand of 3
    edges, bits = bits_by_time(MODEL, filled)
    assert (edges[0], edges[-1]) == (MODEL.schedule.gamma_0, MODEL.schedule.gamma_1)
    assert bits.sum() == pytest.approx(3.0 * (edges[-1] - edges[0]) / (16 * np.log(2.0)))


@pytest.mark.parametrize("interval", ["num_steps", "log_every", "checkpoint_every"])
def test_an_interval_that_ends_within_a_call_is_refused(interval):
    settings = {"num_steps": 100, "log_every": 10, "checkpoint_every": 50, interval: 7}
    with pytest.raises(UserError, match=rf"train.{interval} = 7 is not a multiple of .* = 5"):
        Train(steps_per_call=5, **settings)


@dataclasses.dataclass(frozen=True)
class Tells(FlowMatching):
    """An objective whose loss is what chance gave to the step: its draws, or its dropout."""

    what: str = "dropout"

    def loss(self, model, parameters, images, flag, draws, dropout_key):
        told = {
            "gamma": draws.gamma,
            "noise": jnp.sum(draws.noise, (1, 2, 3)),
            "dropout": jax.random.normal(dropout_key, flag.shape),
        }[self.what]
        nothing = 0.0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(parameters))
        return LossTerms(flag * told + nothing, {"diffusion": told})


@pytest.mark.parametrize("what", ["gamma", "noise", "dropout"])
def test_two_steps_and_two_parts_draw_differently_and_again_the_same(what):
    objective, optimizer = Tells(what=what), optax.sgd(0.1)
    start = initial_state(MODEL, objective, optimizer, jax.random.key(0))

    def told(signs, step=0, accumulation=1):
        """The loss of one step, an image's share of it times the sign."""
        state = dataclasses.replace(start, step=jnp.int32(step))
        batch = {"image": IMAGES[0], "flag": jnp.asarray(signs, jnp.float32)}
        take = make_train_step(
            *(MODEL, objective, optimizer, ExponentialAverage(0.9)),
            num_steps=9,
            accumulation=accumulation,
        )
        return float(take(state, batch)[1]["bpd"])

    everyone, halves = (1, 1, 1, 1), (1, 1, -1, -1)
    assert told(everyone) != told(everyone, step=1)
    assert told(everyone, step=1) == told(everyone, step=1)
    assert abs(told(halves, accumulation=2)) > 1e-4  # nothing, if both parts drew the same
    assert told(halves, accumulation=2) == pytest.approx(told(halves), rel=1e-5)


def test_two_epochs_order_the_images_differently_and_again_the_same():
    def epochs():
        images = Data(Digits()).load(None)
        batches = Data(Digits()).train_batches(images, batch_size=50, seed=0, rows=np.arange(50))
        per_epoch = len(images.train) // 50
        return [[next(batches)["image"] for _ in range(per_epoch)] for _ in range(2)]

    first, second = epochs()
    assert not np.array_equal(first, second)
    in_order = [np.sort(np.concatenate(e).reshape(-1, 64), axis=0) for e in (first, second)]
    np.testing.assert_array_equal(*in_order)
    np.testing.assert_array_equal(epochs(), [first, second])
