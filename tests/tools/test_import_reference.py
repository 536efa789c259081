"""A published checkpoint becomes a workdir that is like any other."""

import json

import fiddle as fdl
import jax
import numpy as np
import pytest

from diffusion_ode import configuration, documents
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.tools.import_reference import import_reference, main
from experiments import registry
from experiments.conversion import from_document, to_document
from launch.overrides import override
from tests.published_checkpoint import random_trees, small_model, write_published


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    trees = random_trees(small_model())
    write_published(folder, trees, step=600)
    return folder, trees


def test_workdir_holds_everything_of_the_published_checkpoint(published, tmp_path):
    folder, trees = published
    workdir = tmp_path / "run"
    imported = import_reference(folder, workdir)
    assert (imported.step, imported.sizes.features, imported.sizes.blocks) == (600, 32, 1)

    document = documents.read(workdir / "config.json")
    experiment = configuration.build(document)
    program = experiment.train.program(experiment)
    restored = StoredCheckpoints(workdir / "checkpoints").restore(program.abstract_state)
    assert (restored.step, restored.document) == (600, document)
    assert restored.data_state == {"next_index": 0}
    state = restored.state
    for found, expected in (
        (state.parameters, trees.parameters),
        (state.ema, trees.ema),
        (state.optimizer[0].mu, trees.mu),
        (state.optimizer[0].nu, trees.nu),
    ):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)


def test_its_config_is_that_of_the_registered_experiment_with_its_sizes(published, tmp_path):
    import_reference(published[0], tmp_path / "run", process="sp", data="imagenet32_new")
    config = from_document(documents.read(tmp_path / "run/config.json"))
    registered = registry.configuration_of(registry.find("imagenet32_new_sp"))
    sizes = ["model.network.features=32", "model.network.blocks=1"]
    assert config.model == override(registered, sizes).model
    assert config.data == registered.data
    assert config.train.optimizer == registered.train.optimizer
    assert config.train.average == registered.train.average


def test_plain_objects_and_configs_make_the_same_document(published, tmp_path):
    import_reference(published[0], tmp_path / "run")
    document = json.loads((tmp_path / "run/config.json").read_text())
    assert to_document(from_document(document)) == document
    assert configuration.document_of(fdl.build(from_document(document))) == document


def test_command_says_what_to_type_next(published, tmp_path, capsys):
    assert main([str(published[0]), str(tmp_path / "run"), "--prediction=noise"]) == 0
    said = capsys.readouterr().out
    assert "--exp=cifar10_vp" in said
    assert "--set=model.network.features=32" in said
    assert "noise_prediction()" in said


def test_taken_workdir_and_other_files_are_refused_in_one_sentence(published, tmp_path, capsys):
    workdir = str(tmp_path / "run")
    assert main([str(published[0]), workdir]) == 0
    capsys.readouterr()
    assert main([str(published[0]), workdir]) == 2
    assert "holds checkpoints already" in capsys.readouterr().err
    (tmp_path / "ckpt-1.flax").write_bytes(b"\x81\xa4step\x01")
    assert main([str(tmp_path), str(tmp_path / "other")]) == 2
    refusal = capsys.readouterr().err
    assert "has no params and no ema_params but step" in refusal
    assert len(refusal.splitlines()) == 1
    assert not (tmp_path / "other").exists()
