"""Where evaluation and sampling take their parameters from."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from diffusion_ode.configs.construction import document_of
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.errors import UserError
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.tasks.loading import load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tools.import_reference import import_reference
from diffusion_ode.training.sharding import Mesh
from tests.published_checkpoint import random_trees, small_model, write_published

EXPERIMENT = dataclasses.make_dataclass("Experiment", ["model", "mesh"])
PARAMETERS = random_trees(small_model())


def run(tmp_path, model=None, **fields):
    model = model or small_model()
    root = "diffusion_ode.tasks.experiment:Experiment"
    document = {"call": root, "arguments": {"model": document_of(model)}}
    experiment: Any = dataclasses.make_dataclass("Experiment", ["model", "mesh"])(
        model, Mesh(data=1)
    )
    return Run(experiment, document, name="x", workdir=tmp_path / "empty", **fields)


@pytest.fixture
def published(tmp_path):
    return write_published(tmp_path, PARAMETERS, step=600)


@pytest.fixture
def other_run(published, tmp_path):
    """A workdir whose images are larger, which its parameters do not depend on."""
    import_reference(published, tmp_path / "other")
    return tmp_path / "other"


def of_large_images():
    model = small_model()
    return dataclasses.replace(model, pixels=dataclasses.replace(model.pixels, shape=(32, 32, 3)))


def assert_average(found):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found.parameters), PARAMETERS.ema)
    assert found.step == 600


def test_published_average_is_used_without_a_workdir(published, tmp_path):
    said = []
    found = load_model(run(tmp_path, init_from=f"reference:{published}"), said.append)
    assert_average(found)
    assert found.facts["digest"].startswith("sha256:")
    assert "step 600" in said[0]


def test_another_runs_average_is_used_if_its_model_is_the_same(other_run, tmp_path):
    model = of_large_images()
    assert_average(load_model(run(tmp_path, model, init_from=f"{other_run}@600"), print))
    with pytest.raises(UserError, match=r"another model \(model.pixels.shape was"):
        load_model(run(tmp_path, init_from=str(other_run)), print)


def test_workdir_without_its_config_is_no_other_models(other_run, tmp_path):
    """The checkpoint has a config of its own; how a network is computed may differ from it."""
    (other_run / "config.json").unlink()
    model = of_large_images()
    model = dataclasses.replace(model, network=model.network.clone(precision=Bfloat16()))
    here = dataclasses.replace(run(tmp_path, model), workdir=other_run)
    assert_average(load_model(here, print))
    straight = dataclasses.replace(model, path=StraightPath())
    here = dataclasses.replace(run(tmp_path, straight), workdir=other_run)
    with pytest.raises(UserError, match=r"Checkpoint 600 .*model.path was Var.* now Straight"):
        load_model(here, print)


def test_checkpoint_of_the_workdir_and_from_elsewhere_exclude_each_other(published, tmp_path):
    both = run(tmp_path, init_from=f"reference:{published}", checkpoint="best")
    with pytest.raises(UserError, match="give one of the two"):
        load_model(both, print)


def test_workdir_without_checkpoints_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="train first"):
        load_model(run(tmp_path), print)
