from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import pytest

from diffusion_ode.computation import SAME_PARAMETERS
from diffusion_ode.configs.documents import Change
from diffusion_ode.errors import UserError
from diffusion_ode.training.beginning import check_changes


@dataclass
class OfAStranger:
    """A network with a field that says how it is computed."""

    features: int = 8
    own: Any = field(default=None, metadata=SAME_PARAMETERS)


EXPERIMENT = make_dataclass("Experiment", ["model"])(
    make_dataclass("Model", ["network"])(OfAStranger())
)


def check(changes, say, asked_for=False):
    check_changes(changes, EXPERIMENT, say, workdir=Path("runs/a"), asked_for=asked_for)


@pytest.mark.parametrize(
    "path",
    ["model.path", "model.network.features", "data.source", "train.seed", "train.batch_size"],
)
def test_resuming_as_another_run_is_refused(path):
    remedy = "keep that, or begin another run .* by --init_from=runs/a --workdir=NEW"
    with pytest.raises(UserError, match=f"has {path} = 1, not 2: {remedy}"):
        check([Change(path, "1", "2")], pytest.fail, asked_for=True)


OPTIMIZATION = [
    Change("train.optimizer.learning_rate.peak", "0.1", "0.2"),
    Change("train.accumulation", "1", "2"),
]


def test_another_optimisation_is_asked_for_and_said():
    says = (
        r"learning_rate\.peak: 0\.1 → 0\.2; train\.accumulation: 1 → 2\): add"
        " --continue_with_changes if that is meant"
    )
    with pytest.raises(UserError, match=says):
        check(OPTIMIZATION, pytest.fail)
    said = []
    check(OPTIMIZATION, said.append, asked_for=True)
    assert said == [f"changed since the last training here: {change}" for change in OPTIMIZATION]


@pytest.mark.parametrize(("before", "after"), [(None, "0.5"), ("0.5", None)])
def test_field_that_only_one_version_has_is_said_and_not_refused(before, after):
    said = []
    check([Change("model.network.scale", before, after)], said.append)
    assert len(said) == 1
    assert "model.network.scale" in said[0]


@pytest.mark.parametrize(
    "path", ["train.num_steps", "model.network.own", "model.network.own.dtype"]
)
def test_what_a_checkpoint_does_not_depend_on_may_change(path):
    said = []
    check([Change(path, "10", "20")], said.append)
    assert said == [f"changed since the last training here: {path}: 10 → 20"]
