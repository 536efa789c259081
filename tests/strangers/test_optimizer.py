"""A stranger's optimiser and learning rate, and Optax's, are trained with."""

import json

import numpy as np
import pytest

from diffusion_ode.configs import documents
from tests.strangers.learning_rate import InverseSquareRoot
from tests.strangers.walk import walk


def logged(walked, name):
    lines = map(json.loads, (walked.workdir / "metrics.jsonl").read_text().splitlines())
    return [line.get(f"train/{name}") for line in lines]


def test_a_strangers_optimiser_goes_all_the_way_and_need_not_tell_its_rate(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.optimizer:digits_signum")
    assert walked.steps == [1, 2, 3, 4]
    assert logged(walked, "learning_rate") == [None] * 4


def test_a_strangers_learning_rate_is_asked_for_each_step_of_the_run(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.learning_rate:digits_inverse_square_root")
    expected = [float(InverseSquareRoot()(np.float32(count))) for count in range(4)]
    assert logged(walked, "learning_rate") == pytest.approx(expected, rel=1e-6)


def test_a_chain_of_optaxs_is_resumed_from_its_own_config(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.learning_rate:digits_lion")
    document = documents.read(walked.workdir / "config.json")
    optimizer = document["arguments"]["train"]["arguments"]["optimizer"]
    assert documents.render(optimizer).startswith(
        "optax.chain(optax.clip_by_global_norm(max_norm=1.0), optax.lion("
    )
    assert walked.steps == [1, 2, 3, 4]
