"""One compiled step for all values of the numbers that its pieces let be traced."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np
import optax
import pytest

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.objectives.high_order import HighOrderDirectional
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.training.optimizer import (
    AdamW,
    ScaleByLearningRate,
    WarmedUp,
    WarmedUpThenCosine,
    WarmedUpThenPolynomial,
)
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.step import ExponentialAverage, make_train_step
from diffusion_ode.training.traced_numbers import numbers_of, with_numbers
from tests.small_network import SmallNetwork

NUM_STEPS, BATCH = 4, 4


def program(optimizer, seed=0, weight=0.1, decay=0.9, trace=1.0, **changes):
    return TrainProgram(
        model=Model(
            VariancePreserving(),
            LinearSchedule(-7.876),
            VelocityPrediction(),
            SmallNetwork(),
            Pixels((8, 8, 1), 17),
        ),
        objective=SecondOrderFlowMatching(
            weight=weight, residual=HighOrderDirectional(trace=trace, frobenius=trace / 2)
        ),
        optimizer=optimizer,
        average=ExponentialAverage(decay),
        placement=Mesh(data=1).build(jax.devices()[:1]),
        num_steps=NUM_STEPS,
        batch_size=BATCH,
        accumulation=1,
        seed=seed,
        **changes,
    )


ONE = program(AdamW(WarmedUpThenCosine(1e-2, 2, 1e-5), 0.9, 0.99, 1e-8, 0.01, 1.0))
ANOTHER = program(
    AdamW(WarmedUpThenCosine(3e-2, 1, 1e-4), 0.8, 0.97, 1e-6, 0.3, 0.2), 2**32 - 1, 0.3, 0.7, 2.0
)


def test_program_is_the_same_for_all_numbers_and_seeds():
    assert ONE.lower_step().as_text() == ANOTHER.lower_step().as_text()


@pytest.mark.parametrize(
    "rate", [float, lambda x: WarmedUp(x, 3), lambda x: WarmedUpThenPolynomial(x, 3, x / 9)]
)
def test_every_learning_rate_of_ours_is_traced(rate):
    def lowered(peak, optimizer):
        return program(optimizer(rate(peak))).lower_step().as_text()

    for optimizer in (AdamW, ScaleByLearningRate):
        assert lowered(1e-3, optimizer) == lowered(2e-3, optimizer)


def test_steps_are_those_of_the_numbers_that_a_program_has():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (NUM_STEPS, BATCH, 8, 8, 1)).astype(np.uint8)
    flag = np.zeros(BATCH, np.float32)
    # The executable is the first one's, the numbers are the other's.
    step = dataclasses.replace(ONE.compile_step(), numbers=ANOTHER._numbers)
    pieces = ANOTHER.model, ANOTHER.objective, ANOTHER.optimizer, ANOTHER.average
    fixed = jax.jit(make_train_step(*pieces, num_steps=NUM_STEPS, seed=ANOTHER.seed))
    state, expected = ANOTHER.fresh_state(), ANOTHER.fresh_state()
    for batch in images:
        state, metrics = step(state, ANOTHER.place({"image": batch, "flag": flag}))
        expected, wanted = fixed(expected, {"image": batch, "flag": flag})
        np.testing.assert_allclose(metrics["bpd"], wanted["bpd"], rtol=1e-5)
        np.testing.assert_allclose(metrics["learning_rate"], wanted["learning_rate"], rtol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves((state.parameters, state.ema)),
        jax.tree.leaves((expected.parameters, expected.ema)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_what_does_not_say_so_keeps_its_numbers():
    @dataclasses.dataclass(frozen=True)
    class Mine(AdamW):
        """May ask `if self.weight_decay`, which its parent does not."""

    assert numbers_of(Mine(), "optimizer") == {}
    assert with_numbers(Mine(), {}, "optimizer") == Mine()
    assert numbers_of(optax.adam(1e-3), "optimizer") == {}


def test_outsider_s_piece_is_traced_where_it_says_so():
    @dataclasses.dataclass(frozen=True)
    class Falling:
        traced: ClassVar = ("peak",)
        peak: float = 1e-3

        def at(self, moment):
            return self.peak / (1.0 + moment.step)

    found = numbers_of(AdamW(Falling(2.0), clip_norm=None), "optimizer")
    assert found["optimizer.learning_rate.peak"] == 2.0
    assert "optimizer.clip_norm" not in found
    changed = with_numbers(AdamW(Falling()), {"optimizer.learning_rate.peak": 5.0}, "optimizer")
    assert changed.learning_rate == Falling(5.0)
    assert changed.b2 == AdamW().b2
