from dataclasses import dataclass, field, make_dataclass
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


@pytest.mark.parametrize(
    "path",
    ["model.path", "model.network.features", "data.source", "train.seed", "train.batch_size"],
)
def test_resuming_as_another_run_is_refused(path):
    with pytest.raises(UserError, match=f"has {path} = 1, not 2: keep that"):
        check_changes([Change(path, "1", "2")], EXPERIMENT, print)


@pytest.mark.parametrize(("before", "after"), [(None, "0.5"), ("0.5", None)])
def test_field_that_only_one_version_has_is_said_and_not_refused(before, after):
    said = []
    check_changes([Change("model.network.scale", before, after)], EXPERIMENT, said.append)
    assert len(said) == 1
    assert "model.network.scale" in said[0]


@pytest.mark.parametrize(
    "path", ["train.num_steps", "model.network.own", "model.network.own.dtype"]
)
def test_what_a_checkpoint_does_not_depend_on_may_change(path):
    said = []
    check_changes([Change(path, "10", "20")], EXPERIMENT, said.append)
    assert said == [f"changed since the run began: {path}: 10 → 20"]
