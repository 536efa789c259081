"""A published checkpoint becomes a workdir that is like any other."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.configs import construction, documents
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.run import Run
from diffusion_ode.tools.import_reference import import_reference, main
from diffusion_ode.training.beginning import begin
from diffusion_ode.training.data_identity import DataIdentity
from diffusion_ode.training.warm_start import WarmStart
from experiments import registry
from experiments.config.conversion import explicit, to_document
from experiments.config.overrides import override
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
    experiment = construction.build(document)
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
    config = explicit(construction.build(documents.read(tmp_path / "run/config.json")))
    registered = registry.configuration_of(registry.find("imagenet32_new_sp"))
    sizes = ["model.network.features=32", "model.network.blocks=1"]
    assert config.model == override(registered, sizes).model
    assert config.data == registered.data
    assert config.train.optimizer == registered.train.optimizer
    assert config.train.average == registered.train.average


def test_plain_objects_and_configs_make_the_same_document(published, tmp_path):
    import_reference(published[0], tmp_path / "run")
    document = json.loads((tmp_path / "run/config.json").read_text())
    assert to_document(explicit(construction.build(document))) == document
    assert construction.document_of(construction.build(document)) == document


def test_command_says_what_to_type_next(published, tmp_path, capsys):
    assert main([str(published[0]), str(tmp_path / "run"), "--prediction=noise"]) == 0
    said = capsys.readouterr().out
    assert "--exp=cifar10_vp" in said
    assert "--set=model.network.features=32" in said
    assert "noise_prediction()" in said
    assert "data are known by name only: cifar10" in said


@pytest.fixture(scope="module")
def imported(published, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("imported")
    import_reference(published[0], workdir, data="imagenet32_new")
    return workdir


class OldImages:
    """Images of the same shape, with as much as is asked of them before an evaluation begins."""

    name = "imagenet32_old"
    shape = (32, 32, 3)
    levels = 256

    def load(self, data_dir):
        del data_dir
        black = np.zeros((2, *self.shape), np.uint8)
        return SimpleNamespace(
            manifest=self, fingerprint="0123456789abcdef", split={"test": black}.get
        )


def test_imported_run_goes_on_with_data_of_its_datas_name_only(imported):
    experiment = construction.build(documents.read(imported / "config.json"))
    program = experiment.train.program(experiment)
    both = r"from the data imagenet32_new, but the data now are imagenet32_old \(0123456789abcdef\)"
    with Checkpoints(imported / "checkpoints") as checkpoints:

        def resume_on(name, say):
            data = DataIdentity(name, "0123456789abcdef")
            return begin(program, checkpoints, WarmStart(), None, data, say)

        said = []
        assert resume_on("imagenet32_new", said.append).state.step == 600
        assert said == ["the data of checkpoint 600 are known by name only: imagenet32_new"]
        with pytest.raises(UserError, match=both):
            resume_on("imagenet32_old", pytest.fail)


def test_imported_run_is_not_evaluated_on_data_of_another_name(imported):
    document = documents.read(imported / "config.json")
    experiment = construction.build(document)
    run = Run(dataclasses.replace(experiment, data=OldImages()), document, "x", imported)
    with pytest.raises(UserError, match=r"imagenet32_new, but the data now are imagenet32_old \("):
        experiment.evaluate.run(run)
    assert not (imported / "evaluations").exists()


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
