"""Whatever is in a checkpoint's files, it is read, or refused and the one before is taken."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from diffusion_ode.checkpoints import records
from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.errors import DamagedCheckpoint
from diffusion_ode.checkpoints.reference import read_reference
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from tests.mutations import attack, counts

STATE = {"w": jnp.arange(6.0).reshape(2, 3)}
ABSTRACT = jax.eval_shape(lambda: STATE)


@pytest.fixture
def folder(tmp_path):
    """A workdir's checkpoints of steps 1 and 2."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, STATE, {"next_index": step}, {"call": "model"}, {"bpd": 3.0})
    return tmp_path / "checkpoints"


def seal_again(folder, change):
    """Changes the records of step 2, a dict by item, and puts their seal on them."""
    files = {item: folder / "2" / item / "metadata" for item in ("data", "config", "facts")}
    found = {item: json.loads(file.read_text()) for item, file in files.items()}
    found["facts"].pop("seal")
    change(found)
    found["facts"]["seal"] = records._seal(found)
    for item, file in files.items():
        file.write_text(json.dumps(found[item]))


def restored(folder) -> int:
    """The step that is read, its content as it was saved."""
    found = StoredCheckpoints(folder, report=lambda _: None).restore(ABSTRACT)
    assert np.array_equal(found.state["w"], STATE["w"])
    return found.step


@pytest.mark.parametrize(
    "document",
    [
        *("{}", "[]", "null", "3", '"x"', "[" * 5000, '{"tree_metadata": {"x": {}}}'),
        *(('"w"', '"v"'), ("[2, 3]", "[200000000000, 3]"), ("false", "true"), ("true", "false")),
        *(("jax.Array", "None"), ("jax.Array", "string"), ("jax.Array", "Dict"), ("(", "[")),
    ],
    ids=str,
)
def test_other_json_in_the_place_of_orbaxs_metadata(folder, document):
    file = folder / "2" / "state" / "_METADATA"
    text = file.read_text()
    file.write_text(text.replace(*document) if isinstance(document, tuple) else document)
    assert restored(folder) in (1, 2)


@counts
@pytest.mark.parametrize("name", ["_METADATA", "array_metadatas/process_0"])
def test_metadata_of_orbax(folder, name, count):
    file = folder / "2" / "state" / name
    content = file.read_bytes()
    shutil.rmtree(folder / "1")

    def read(changed):
        file.write_bytes(changed)
        restored(folder)

    attack(content, read, count, least=0)


@counts
@pytest.mark.parametrize("item", ["data", "config", "facts"])
def test_records(folder, item, count):
    file = folder / "2" / item / "metadata"

    def read(changed):
        file.write_bytes(changed)
        return records.read_records(folder / "2")

    attack(file.read_bytes(), read, count, DamagedCheckpoint)


@counts
def test_records_that_are_sealed_again(folder, count):
    files = {item: folder / "2" / item / "metadata" for item in ("data", "config", "facts")}
    content = json.dumps({item: json.loads(file.read_text()) for item, file in files.items()})

    def read(changed):
        try:
            found = json.loads(changed)
            found["facts"].pop("seal")
            found["facts"]["seal"] = records._seal(found)
            for item, file in files.items():
                file.write_text(json.dumps(found[item]))
        except Exception:  # no longer anything that can be sealed
            return
        restored(folder)

    attack(content.encode(), read, count, least=0)


@counts
def test_published_files(tmp_path, count):
    network = {"score_model": {"w": np.arange(6.0, dtype=np.float32)}}
    adam = {"count": np.int32(3), "mu": network, "nu": network}
    tree = {"step": 3, "params": network, "ema_params": network, "opt_state": {"0": adam}}
    file = tmp_path / "ckpt-3.flax"

    def read(changed):
        file.write_bytes(changed)
        return read_reference(file)

    attack(serialization.msgpack_serialize(tree), read, count)


def test_a_shape_of_no_elements_and_of_too_many(tmp_path):
    from msgpack import ExtType, packb

    from diffusion_ode.checkpoints.state_dict import read_state_dict
    from diffusion_ode.errors import UserError

    file = tmp_path / "ckpt-3.flax"
    file.write_bytes(packb({"a": ExtType(1, packb(((0, 2**31, 2**31, 2**31), "float32", b"")))}))
    with pytest.raises(UserError, match="not a checkpoint that Flax wrote"):
        read_state_dict(file)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"code": "x"}, {"code": [1]}, {"imported_from": 5}, {"data": 5}, {"digest": "a\nb"}),
        *({"metrics": {"a": "x"}}, {"metrics": []}, {"validations": [[1, 2]]}, {"digest": None}),
        *({"data": "x" * 201}, {"data": "\x1b[2J"}, {"data_fingerprint": "y" * 201}),
        {"code": {"revision": 'x"""\nimport os\n"""'}},
        {"code": {"version": "1 2"}},
        {"code": {"outside": ["mine"]}},
        {"code": {"outside": {"mine": 5}}},
        {"code": {"outside": {"mine": "/etc/hostname"}}},
        {"code": {"outside": {"mine": "code/../mine-0.py"}}},
        {"code": {"outside": {"x\0y": "code/x-0.py"}}},
        {"code": {"outside": {".tmp.mine": "code/.tmp.mine-0.py"}}},
    ],
    ids=str,
)
def test_facts_of_another_kind_that_are_sealed_again(folder, wrong):
    seal_again(folder, lambda found: found["facts"].update(wrong))
    with pytest.raises(DamagedCheckpoint, match=f"the {next(iter(wrong))} is not one"):
        records.read_records(folder / "2")
    assert restored(folder) == 1


@pytest.mark.parametrize("at", [-5, "x", 10**30, None, True, 1.5], ids=str)
def test_a_data_state_that_names_no_batch_and_is_sealed_again(folder, at):
    state = {} if at is None else {"next_index": at}
    seal_again(folder, lambda found: found.update(data=state))
    with pytest.raises(DamagedCheckpoint, match="the state of its data names no batch"):
        records.read_records(folder / "2")
    assert restored(folder) == 1
