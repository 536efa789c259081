"""A run becomes a folder to pass on, and is the same model when it is read back."""

import hashlib
import json
import os
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from diffusion_ode import DiffusionModel
from diffusion_ode.checkpoints.exported import ExportedModel, write_exported
from diffusion_ode.checkpoints.stored import Restored
from diffusion_ode.configs import construction, documents
from diffusion_ode.errors import UserError
from diffusion_ode.inference import diffusion_model
from diffusion_ode.tools.export import export, main
from diffusion_ode.tools.model_card import model_card
from diffusion_ode.training.origins import parse_origin
from tests.mutations import NO_OBJECTS, WRONG_VALUES, with_wrong_values
from tests.published_checkpoint import imported_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    return imported_run(tmp_path_factory.mktemp("published"), workdir)


@pytest.fixture
def exported(run, tmp_path):
    export(run, tmp_path / "out")
    return tmp_path / "out"


def assert_bits_are_equal(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(
            np.asarray(a).view(np.uint8), np.asarray(b).view(np.uint8)
        ),
        found,
        expected,
    )


def test_a_round_trip_is_bit_equal(run, exported):
    before, after = DiffusionModel.load(run), DiffusionModel.load(exported)
    assert_bits_are_equal(after.parameters, before.parameters)
    assert after.model == before.model
    assert (after.likelihood, after.sampler) == (before.likelihood, before.sampler)
    assert after.facts == before.facts
    assert {f.name for f in exported.iterdir()} == {
        *("README.md", "config.json", "load.py", "model.safetensors")
    }


def test_every_type_and_rank_comes_back(tmp_path):
    ema = {
        "half": jnp.asarray([1.5, -0.0, jnp.nan], jnp.bfloat16),
        "inner": {"scalar": jnp.float32(3.0), "empty": jnp.zeros((0, 2)), "count": jnp.int32(7)},
    }
    write_exported(tmp_path, Restored(3, {"ema": ema}, {}, {"call": "x"}, {"digest": "d"}))
    restored = ExportedModel(tmp_path).restore_parameters({"ema": ema}, 3)
    assert (restored.step, restored.document) == (3, {"call": "x"})
    for found, expected in zip(
        jax.tree.leaves(restored.state["ema"]), jax.tree.leaves(ema), strict=True
    ):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()


def test_other_tasks_begin_with_it(run, exported):
    model = construction.build(documents.read(run / "config.json")["arguments"]["model"])
    abstract = jax.eval_shape(model.init, jax.random.key(0))
    restored = parse_origin(str(exported)).restore(model, {"ema": abstract})
    assert_bits_are_equal(restored.state["ema"], DiffusionModel.load(run).parameters)
    with pytest.raises(UserError, match=r"--set train\.warm_start\.optimizer=False"):
        parse_origin(str(exported)).restore(model, {"ema": abstract, "optimizer": abstract})


def flipped(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def cut_off(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])


def altered_config(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"levels": 256', '"levels": 255'))


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def without_config(folder):
    (folder / "config.json").unlink()


def of_another_program(folder):
    save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")


def sealed(folder, change=lambda record: record):
    """A record that somebody has altered and sealed anew."""
    with safe_open(folder / "model.safetensors", "np") as file:
        record = json.loads(file.metadata()["record"])
    record["config"] = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    text = json.dumps(change(record))
    metadata = {"record": text, "seal": hashlib.sha256(text.encode()).hexdigest()}
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata=metadata)


def hostile_config(folder):
    document = documents.read(folder / "config.json")
    document["arguments"]["model"] = {"call": "os:system", "arguments": {"command": "true"}}
    documents.write(document, folder / "config.json")
    sealed(folder)


def hostile_step(folder):
    sealed(folder, lambda record: record | {"step": ["rm"]})


def hostile_leaves(folder):
    sealed(folder, lambda record: record | {"leaves": [1, 2]})


def list_as_record(folder):
    sealed(folder, lambda record: [record])


@pytest.mark.parametrize(
    "harm, says",
    [
        (flipped, "the content of ema/.* is not what was exported"),
        (cut_off, "not as it was exported"),
        (altered_config, "config.json is altered"),
        (without_weights, "holds no checkpoint"),
        (without_config, "Cannot read the config"),
        (of_another_program, "of another program"),
        (hostile_config, "os:system.*not part of this program, so nothing of it ran"),
        (hostile_step, "not as it was exported"),
        (hostile_leaves, "not as it was exported"),
        (list_as_record, "not as it was exported"),
    ],
)
def test_a_damaged_or_hostile_folder_is_refused_in_one_sentence(exported, harm, says):
    harm(exported)
    with pytest.raises(UserError, match=says) as refusal:
        DiffusionModel.load(exported)
    assert "\n" not in str(refusal.value)


def test_a_pipe_is_refused_and_not_waited_for(exported):
    without_weights(exported)
    os.mkfifo(exported / "model.safetensors")
    with pytest.raises(UserError, match="no regular file"):
        DiffusionModel.load(exported)


def test_any_altered_byte_is_noticed(exported):
    model = construction.build(documents.read(exported / "config.json")["arguments"]["model"])
    wanted = {"ema": jax.eval_shape(model.init, jax.random.key(0))}
    whole = {name: (exported / name).read_bytes() for name in ("config.json", "model.safetensors")}
    header = 8 + int.from_bytes(whole["model.safetensors"][:8], "little")
    rng = np.random.default_rng(0)
    for trial in range(60):
        name = ("config.json", "model.safetensors")[trial % 2]
        end = header if trial % 4 == 1 else len(whole[name])
        content = bytearray(whole[name])
        content[rng.integers(end)] ^= 1 << rng.integers(8)
        (exported / name).write_bytes(content)
        with pytest.raises(UserError) as refusal:
            ExportedModel(exported).restore_parameters(wanted)
        assert "\n" not in str(refusal.value)
        (exported / name).write_bytes(whole[name])


def test_another_step_than_the_exported_is_refused(exported):
    assert DiffusionModel.load(exported, 600).facts["step"] == 600
    with pytest.raises(UserError, match="of step 600: leave the step 7 out"):
        DiffusionModel.load(exported, 7)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["RUN", "OUT", "--checkpoint=last"], "neither a step nor"),
        (["RUN", "OUT", "--checkpoint=7"], r"no checkpoint 7: choose one of the steps \[600\]"),
        (["RUN", "RUN"], "exists already: give another OUT"),
        (["OUT", "OUT"], "holds no checkpoint: give the workdir of a training"),
    ],
)
def test_a_wrong_request_is_refused_and_leaves_nothing(run, tmp_path, capsys, arguments, says):
    places = {"RUN": str(run), "OUT": str(tmp_path / "out")}
    assert main([places.get(word, word) for word in arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(says, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_damaged_records_keep_no_checkpoint_from_being_exported(tmp_path, content):
    restored = Restored(3, {"ema": {}}, {}, {"call": "x"}, {"digest": "d"})
    (tmp_path / "evaluations/7-a").mkdir(parents=True)
    for name in ("run.json", "evaluations/7-a/result.json"):
        (tmp_path / name).write_bytes(content)
    card = model_card(tmp_path, restored)
    assert "has not been evaluated" in card
    assert "The command is not known" in card


LAUNCH = {
    "task": "train",
    "experiment": "digits_vp",
    "command": "python run.py",
    "step": None,
    "seed": 0,
    "versions": {"jax": "1"},
    "devices": ["cpu"],
}
RESULT = {
    "checkpoint": {"digest": "d"},
    "data": {"num_images": 2, "split_images": 3, "split": "test", "name": "a", "fingerprint": "f"},
    "ode": {"bpd": 2.5, "standard_error": 0.1, "code_length": True, "nfe_mean": 20.0},
    "bound": None,
    "quirks": [],
}


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_card_of_records_with_fields_of_another_kind_is_written(tmp_path, wrong):
    restored = Restored(3, {"ema": {}}, {}, {"call": "x"}, {"digest": "d"})
    (tmp_path / "evaluations/3-a").mkdir(parents=True)
    launches = [*with_wrong_values(LAUNCH, wrong), LAUNCH]
    (tmp_path / "run.json").write_text(json.dumps({"launches": launches}))
    for result in [*with_wrong_values(RESULT, wrong), RESULT]:
        (tmp_path / "evaluations/3-a/result.json").write_text(json.dumps(result))
        card = model_card(tmp_path, restored)
        assert "Devices: 1 × cpu. Seed: 0. Versions: jax 1." in card
    assert "2.5000 ± 0.1000" in card


def test_a_missing_library_is_told_with_its_command(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(UserError, match="pip install safetensors"):
        export(run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [5, {"tuple": []}, "x", None])
@pytest.mark.parametrize("where", ["model", "likelihood", "sampler"])
def test_a_config_that_makes_no_model_is_refused(run, tmp_path, monkeypatch, wrong, where):
    if wrong is None and where != "model":
        return  # nothing says how by default

    def others(document, folder):
        made_of = list(documents_of(document, folder))
        made_of[("model", "likelihood", "sampler").index(where)] = wrong
        return tuple(made_of)

    documents_of = diffusion_model.model_documents
    monkeypatch.setattr(diffusion_model, "model_documents", others)
    with pytest.raises(UserError, match=r"^The config in .* has .* where an? \w+ belongs: restore"):
        DiffusionModel.load(run)
