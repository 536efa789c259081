"""A transformer that nothing in the program knows, in all places that used to ask for the U-Net."""

import dataclasses
import runpy

import jax
import numpy as np
import pytest

from diffusion_ode.diffusion.model import Model
from diffusion_ode.errors import UserError
from diffusion_ode.tools.export import export
from diffusion_ode.training.origins import PublishedFile
from diffusion_ode.training.sharding import Placement
from diffusion_ode.workdir.code import running_code
from launch.run import main
from tests.published_checkpoint import random_trees, small_model, write_published
from tests.strangers.network import DiT
from tests.strangers.walk import walk

EXPERIMENT = "--exp=tests.strangers.network:digits_dit"
TINY = ("model.network.width=16", "model.network.heads=2", "model.network.depth=1")


@pytest.fixture(scope="module")
def model() -> Model:
    return dataclasses.replace(small_model(), network=DiT(width=64))


def test_it_is_trained_resumed_evaluated_and_sampled(tmp_path):
    walked = walk(tmp_path, EXPERIMENT, network=TINY)
    assert walked.steps == [1, 2, 3, 4]
    assert walked.result["ode"]["num_images"] == walked.result["data"]["num_images"] == 2
    assert walked.result["bound"]["bpd"] > 0
    assert [file.name for file in walked.samples] == ["4", "grid.png", "samples.npz"]

    export(walked.workdir, tmp_path / "passed_on")
    card = (tmp_path / "passed_on/README.md").read_text()
    assert f"{walked.result['ode']['bpd']:.4f} ± " in card
    assert walked.result["data"]["fingerprint"] in card
    assert "run.py --workdir=" in card and EXPERIMENT in card
    assert running_code().revision in card
    assert "code from outside the program, `tests.strangers.network`" in card
    # As the script in it does, which whoever was given the folder runs.
    loaded = runpy.run_path(str(tmp_path / "passed_on/load.py"))
    assert loaded["samples"].images.shape == (4, 8, 8, 1)
    assert np.all(np.isfinite(loaded["judged"].bits_per_dimension))


def test_its_costs_are_described_by_xla_s_count(capsys):
    assert main([EXPERIMENT, "--describe", "--device=h100:4"]) == 0
    said = capsys.readouterr().out
    assert "a step of 32 images, by XLA's count" in said
    assert "  4 h100" in said
    assert "an upper bound" in said
    assert max(map(len, said.splitlines())) <= 80


def test_its_parameters_are_divided_along_fsdp_whatever_their_names(model):
    placement = Placement(
        jax.sharding.AbstractMesh((1, 4), ("data", "fsdp")), smallest_sharded=2**8
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    shardings = jax.tree.leaves(placement.state(shapes))
    assert sum("fsdp" in sharding.spec for sharding in shardings) > len(shardings) / 2


def test_a_published_checkpoint_is_refused_in_one_sentence(model, tmp_path):
    path = write_published(tmp_path, random_trees(small_model()))
    with pytest.raises(UserError, match="of another network than DiT: start from one of your own"):
        PublishedFile(path).restore(model, {})
