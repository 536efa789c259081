"""A base's statistics: of the training images, and the same after every step."""

import dataclasses

import jax
import numpy as np

from diffusion_ode.diffusion.gaussian_base import BASE, GaussianBase
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.training.optimizer import AdamW
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.step import ExponentialAverage
from tests.training.test_step import LEVELS, MODEL


def test_no_step_changes_the_statistics_of_the_training_images():
    images = np.random.default_rng(0).integers(0, LEVELS, (500, 4, 4, 1), dtype=np.uint8)
    base = GaussianBase()
    program = TrainProgram(
        model=dataclasses.replace(MODEL, base=base),
        objective=SecondOrderFlowMatching(),
        optimizer=AdamW(0.1, weight_decay=1.0),  # which halves what it is given in a few steps
        average=ExponentialAverage(0.5),
        placement=Mesh(data=1).build(),
        num_steps=3,
        batch_size=8,
        accumulation=2,
        seed=0,
    )
    assert BASE not in {
        key.key
        for path, _ in jax.tree_util.tree_leaves_with_path(program.abstract_state.optimizer)
        for key in path
        if isinstance(key, jax.tree_util.DictKey)
    }
    state, step = program.fresh_state(images), program.compile_step()
    network = np.asarray(state.parameters["Conv_0"]["kernel"])
    for start in range(0, 24, 8):
        batch = {"image": images[start : start + 8], "flag": np.zeros(8, np.float32)}
        state, metrics = step(state, program.place(batch))
        assert np.isfinite(metrics["bpd"])
    assert not np.allclose(state.parameters["Conv_0"]["kernel"], network)
    for name, values in base.fit(images, LEVELS).items():
        for part in (state.parameters, state.ema):
            assert np.array_equal(part[BASE][name], np.float32(values))
