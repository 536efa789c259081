"""Checkpoints: one moment each, verified before use, never lost to a fallback."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from diffusion_ode.checkpoints import arrays, records
from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.digest import digest
from diffusion_ode.checkpoints.errors import SaveFailed
from diffusion_ode.checkpoints.stored import StoredCheckpoints, as_step
from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel

ROOT = Path(__file__).parents[2]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    step: jax.Array
    key: jax.Array
    parameters: dict
    moments: tuple


def state_at(step: int) -> State:
    kernel = jnp.arange(12.0).reshape(3, 4) + step
    parameters = {"conv": {"kernel": kernel, "bias": jnp.ones(3, jnp.bfloat16) * step}}
    return State(
        step=jnp.int32(step),
        key=jax.random.key(step),
        parameters=parameters,
        moments=(None, {"mu": kernel * 2, "flags": jnp.array([True, False])}, jnp.zeros((0, 2))),
    )


def abstract():
    return jax.eval_shape(lambda: state_at(0))


def save(checkpoints: Checkpoints, step: int, **more):
    data_state, document = {"next_index": 10 * step}, {"call": "model", "n": step}
    checkpoints.save(step, state_at(step), data_state, document, **more)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A workdir's checkpoints with steps 1, 2, 3."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            save(checkpoints, step)
    return tmp_path / "checkpoints"


def assert_is(restored, step: int):
    assert restored.step == step
    assert digest(restored.state) == digest(state_at(step)) == restored.facts["digest"]
    assert jax.tree.structure(restored.state) == jax.tree.structure(state_at(step))
    assert restored.data_state == {"next_index": 10 * step}
    assert restored.document == {"call": "model", "n": step}


def tree_of(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def damage_array(folder: Path, step: int):
    """Replace the kernel by a well-formed one with one bit flipped: Orbax notices nothing."""
    target = folder / str(step) / "state"
    state = state_at(step)
    words = np.array(state.parameters["conv"]["kernel"])
    words.view(np.uint32)[1, 2] ^= np.uint32(1)
    state.parameters["conv"]["kernel"] = jnp.asarray(words)
    shutil.rmtree(target)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(target, arrays.nested_arrays(state))


def truncate_largest(folder: Path, step: int):
    files = [f for f in (folder / str(step) / "state" / "d").iterdir() if f.is_file()]
    largest = max(files, key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def damage_record(folder: Path, step: int):
    record = folder / str(step) / "data" / "metadata"
    record.write_text(record.read_text().replace("0", "1"))


def remove_facts(folder: Path, step: int):
    shutil.rmtree(folder / str(step) / "facts")


def empty_folder(folder: Path, step: int):
    shutil.rmtree(folder / str(step))
    (folder / str(step)).mkdir()


def test_one_moment_is_saved_and_restored_bit_for_bit(folder):
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.list_steps() == [1, 2, 3]
        assert checkpoints.latest_step() == 3
        assert_is(checkpoints.restore(abstract()), 3)
        assert_is(checkpoints.restore(abstract(), 2), 2)


def test_facts_and_metrics_come_back(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        save(checkpoints, 1, metrics={"bpd": jnp.float32(2.5)}, facts={"data_fingerprint": "ab12"})
        facts = checkpoints.restore(abstract()).facts
    assert facts["data_fingerprint"] == "ab12"
    assert facts["metrics"] == {"bpd": 2.5}


def test_the_newest_and_the_best_are_kept(tmp_path):
    values = {1: 3.0, 2: 2.0, 3: None, 4: float("nan"), 5: 2.5, 6: 2.6}
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step, value in values.items():
            save(checkpoints, step, metrics=None if value is None else {"validation_bpd": value})
    # Another process, which has to read the metrics.
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        assert checkpoints.list_steps() == [2, 5, 6]
        assert checkpoints.best_step() == 2
        assert_is(checkpoints.restore(abstract(), "best"), 2)
        save(checkpoints, 7, metrics={"validation_bpd": 1.0})
    assert checkpoints.list_steps() == [6, 7]


def test_best_where_nothing_was_validated_says_what_to_do(folder):
    with pytest.raises(UserError, match=r"judged on held-out images.*\[1, 2, 3\]"):
        Checkpoints(folder).restore(abstract(), "best")


def test_test_images_choose_only_where_that_is_asked_for(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        save(checkpoints, 1, metrics={"test_bpd": 2.0})
        save(checkpoints, 2, metrics={"test_bpd": 3.0})
        with pytest.raises(UserError, match=r"choose nothing.*best_on_test"):
            checkpoints.restore(abstract(), "best")
        assert_is(checkpoints.restore(abstract(), "best_on_test"), 1)


@pytest.mark.parametrize(
    "damage", [damage_array, truncate_largest, damage_record, remove_facts, empty_folder]
)
def test_a_damaged_newest_is_reported_and_quarantined_and_the_one_before_used(folder, damage):
    damage(folder, 3)
    damaged = tree_of(folder / "3")
    said = []
    with Checkpoints(folder, report=said.append) as checkpoints:
        assert_is(checkpoints.restore(abstract()), 2)
        assert checkpoints.list_steps() == [1, 2]
        save(checkpoints, 3)
        assert_is(checkpoints.restore(abstract()), 3)
    assert "checkpoint 3" in said[0]
    assert tree_of(folder.parent / "quarantine" / "3") == damaged


def test_a_second_quarantine_of_one_step_overwrites_nothing(folder):
    for _ in range(2):
        empty_folder(folder, 3)
        with Checkpoints(folder, report=lambda _: None) as checkpoints:
            checkpoints.restore(abstract())
            save(checkpoints, 3)
    assert sorted(f.name for f in (folder.parent / "quarantine").iterdir()) == ["3", "3-2"]


def test_if_all_are_damaged_nothing_changes_and_the_user_is_told(folder):
    empty_folder(folder, 1)
    damage_record(folder, 2)
    empty_folder(folder, 3)
    with pytest.raises(
        UserError, match=r"Every checkpoint .* \(3: the state of its data .* is missing; 2: its rec"
    ):
        Checkpoints(folder, report=lambda _: None).restore(abstract())
    assert sorted(f.name for f in folder.parent.iterdir()) == ["checkpoints"]
    assert Checkpoints(folder).list_steps() == [1, 2, 3]


def test_a_damaged_one_that_was_asked_for_is_not_replaced_by_another(folder):
    damage_array(folder, 3)
    with pytest.raises(UserError, match=r"parameters/conv/kernel.*choose another.*\[1, 2\]"):
        Checkpoints(folder).restore(abstract(), 3)
    assert Checkpoints(folder).list_steps() == [1, 2, 3]


def test_a_state_that_does_not_fit_is_fatal_and_changes_nothing(folder):
    before = tree_of(folder.parent)
    other = abstract()
    other.parameters["conv"]["kernel"] = jax.ShapeDtypeStruct((3, 8), jnp.float32)
    other.parameters["conv"]["bias"] = jax.ShapeDtypeStruct((3,), jnp.float32)
    other.parameters["more"] = jax.ShapeDtypeStruct((), jnp.float32)
    with pytest.raises(UserError) as failure, Checkpoints(folder) as checkpoints:
        checkpoints.restore(other)
    said = str(failure.value)
    assert "parameters/conv/kernel is float32[3,4] there and float32[3,8] here" in said
    assert "parameters/conv/bias is bfloat16[3] there and float32[3] here" in said
    assert "parameters/more is absent there and float32[] here" in said
    assert tree_of(folder.parent) == before


def test_a_leaf_that_the_config_does_not_know_does_not_fit(folder):
    other = abstract()
    del other.parameters["conv"]["bias"]
    with pytest.raises(UserError, match="parameters/conv/bias is bfloat16"):
        Checkpoints(folder).restore(other)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC, errno.EIO])
def test_errors_of_the_disk_are_raised_as_they_are(folder, code, monkeypatch):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    before = tree_of(folder.parent)
    for module, name in (
        (records.json, "loads"),
        (ocp.PyTreeCheckpointHandler, "restore"),
    ):
        with monkeypatch.context() as patch, pytest.raises(OSError) as failure:
            patch.setattr(module, name, fail)
            Checkpoints(folder).restore(abstract())
        assert failure.value.errno == code
    assert tree_of(folder.parent) == before


@pytest.mark.parametrize(
    "text",
    [
        "PERMISSION_DENIED: Error opening",
        "OUT_OF_RANGE: Error reading local file: Failed to read [os_error_code='5'] [spec]",
        "DATA_LOSS: Failed to read [OS error 28: ENOSPC No space left on device]",
    ],
)
def test_errors_of_the_disk_inside_tensorstore_are_raised_as_they_are(folder, text, monkeypatch):
    def fail(*_, **__):
        raise ValueError(text)

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", fail)
    with pytest.raises(ValueError) as failure:
        Checkpoints(folder).restore(abstract())
    assert str(failure.value) == text
    assert Checkpoints(folder).list_steps() == [1, 2, 3]


def test_some_fields_are_restored_and_verified(folder):
    wanted = {"parameters": abstract().parameters}
    restored = Checkpoints(folder).restore_parameters(wanted)
    assert digest(restored.state) == digest({"parameters": state_at(3).parameters})
    damage_array(folder, 3)
    restored = StoredCheckpoints(folder, report=lambda _: None).restore_parameters(wanted)
    assert restored.step == 2
    with pytest.raises(UserError, match="ema is absent there"):
        Checkpoints(folder).restore_parameters({"ema": jax.ShapeDtypeStruct((), jnp.float32)})


def test_the_document_is_read_without_arrays(folder):
    shutil.rmtree(folder / "3" / "state")
    assert Checkpoints(folder).read_document() == {"call": "model", "n": 3}


def test_reading_only_creates_and_removes_nothing(folder, tmp_path):
    (folder / "4.orbax-checkpoint-tmp").mkdir()  # a training is saving
    empty_folder(folder, 3)
    before = sorted(tmp_path.rglob("*"))
    assert_is(StoredCheckpoints(folder, report=lambda _: None).restore(abstract()), 2)
    nothing = StoredCheckpoints(tmp_path / "absent")
    assert nothing.list_steps() == []
    with pytest.raises(UserError, match="holds no checkpoint"):
        nothing.restore(abstract())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_step_that_is_not_newer_is_refused(folder):
    with Checkpoints(folder) as checkpoints, pytest.raises(ValueError, match="not newer"):
        save(checkpoints, 3)


def test_what_is_not_json_is_refused_at_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(TypeError):
        checkpoints.save(1, state_at(1), {"next_index": object()}, {})


@contextlib.contextmanager
def full_disk():
    """No file may grow beyond 100 kB: stands for a disk without space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large() -> dict:
    return {"w": jax.random.normal(jax.random.key(0), (300, 1000))}


def test_a_save_that_fails_in_the_background_surfaces_and_blocks_no_later_one(folder):
    with Checkpoints(folder) as checkpoints:
        with full_disk():
            checkpoints.save(4, large(), {"next_index": 0}, {})
            assert checkpoints.latest_step() == 4
            with pytest.raises(SaveFailed, match=r"4 .*\(File too large\).* complete one is 3"):
                for _ in range(200):
                    checkpoints.check()
                    time.sleep(0.05)
        assert checkpoints.latest_step() == 3
        save(checkpoints, 5)
        assert checkpoints.latest_step() == 5
    assert checkpoints.list_steps() == [2, 3, 5]


def test_a_save_that_would_not_be_the_run_s_is_refused(tmp_path):
    def check_there():
        if not tmp_path.exists():
            raise UserError("run is gone.")

    with Checkpoints(tmp_path / "checkpoints", check_there=check_there) as checkpoints:
        save(checkpoints, 1)
        checkpoints.wait()
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        with pytest.raises(UserError, match="run is gone"):
            save(checkpoints, 2)
        assert not tmp_path.exists()


def test_a_failed_last_save_is_not_lost_on_leaving(folder):
    with full_disk(), pytest.raises(SaveFailed), Checkpoints(folder) as checkpoints:
        checkpoints.save(4, large(), {"next_index": 0}, {})


def test_the_exception_in_flight_is_not_hidden_by_a_failed_save(folder):
    with full_disk(), pytest.raises(KeyError) as failure, Checkpoints(folder) as checkpoints:
        checkpoints.save(4, large(), {"next_index": 0}, {})
        raise KeyError("loss")
    assert "checkpoint 4" in failure.value.__notes__[0]


KILLED = """
import sys, pathlib, jax.numpy as jnp
from diffusion_ode.checkpoints.checkpoints import Checkpoints
checkpoints = Checkpoints(pathlib.Path(sys.argv[1]))
for step in range(1, 10_000):
    checkpoints.save(step, {"w": jnp.full((200, 1000), step)}, {"next_index": step}, {})
    print(step, flush=True)
"""


def test_kill_during_a_save_loses_nothing_that_was_complete(tmp_path):
    folder = tmp_path / "checkpoints"
    command = [sys.executable, "-c", KILLED, str(folder)]
    said = []
    for pause in (0.01, 0.05):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            for _ in range(5):
                process.stdout.readline()
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        with Checkpoints(folder, report=said.append) as checkpoints:
            restored = checkpoints.restore({"w": jax.ShapeDtypeStruct((200, 1000), jnp.int32)})
            assert restored.step >= 4
            assert (np.asarray(restored.state["w"]) == restored.step).all()
            assert restored.data_state == {"next_index": restored.step}
        shutil.rmtree(folder)
    assert said == []


SHARDED = """
import sys, pathlib, jax, jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", 4)
from jax.sharding import NamedSharding, PartitionSpec as P
from diffusion_ode.checkpoints.checkpoints import Checkpoints
mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
state = {"w": jnp.arange(32.0).reshape(4, 8), "key": jax.random.key(3), "n": jnp.int32(1)}
specs = {"w": P("a", "b"), "key": P(), "n": P()}
shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
abstract = {
    n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shardings[n]) for n, x in state.items()
}
with Checkpoints(pathlib.Path(sys.argv[1])) as checkpoints:
    checkpoints.save(1, state, {"next_index": 1}, {})
    restored = checkpoints.restore(abstract).state
    assert {n: x.sharding for n, x in restored.items()} == shardings, restored
    checkpoints.save(2, restored, {"next_index": 2}, {})
    one, two = checkpoints.restore(abstract, 1), checkpoints.restore(jax.eval_shape(lambda: state))
    assert one.facts["digest"] == two.facts["digest"] and two.step == 2
    assert len(two.state["w"].sharding.device_set) == 1
"""


def test_restoring_goes_onto_the_shardings_asked_for(tmp_path):
    subprocess.run(
        [sys.executable, "-c", SHARDED, str(tmp_path)], check=True, timeout=120, cwd=ROOT
    )


def test_missing_config_is_named_and_the_workdirs_own_takes_its_place(folder):
    for step in (1, 2, 3):
        (folder / str(step) / "config" / "metadata").rename(folder.parent / f"{step}.json")
    stored = StoredCheckpoints(folder)
    copy_it = r"its config is missing: copy the workdir's config\.json to config/metadata"
    with pytest.raises(
        UserError, match=rf"^Every checkpoint in \S+ is damaged \({copy_it} in it\)"
    ):
        stored.read_document()
    with pytest.raises(UserError, match=rf"^Checkpoint 2 .*{copy_it}"):
        stored.read_document(2)
    text = json.dumps(json.loads((folder.parent / "3.json").read_text()), indent=2)
    (folder / "3" / "config" / "metadata").write_text(text)
    assert_is(stored.restore(abstract()), 3)


@pytest.mark.parametrize("given", [4, "4", np.int64(4), np.array(4), jnp.int32(4)])
def test_a_step_is_asked_for_in_any_form_of_a_whole_number(given):
    assert as_step(given) == 4
    assert type(as_step(given)) is int


def test_what_is_no_step_is_refused_before_any_folder_is_read():
    assert (as_step(None), as_step("best")) == (None, "best")
    for given in (4.0, True, "x", "4.0", -1.5, [4]):
        with pytest.raises(UserError, match="neither a step nor 'best': give a whole number"):
            as_step(given)
        with pytest.raises(UserError, match="neither a step nor 'best'"):
            DiffusionModel.load("nowhere", given)


@pytest.mark.parametrize("name", ["0099", "\u0669\u0669", "9" * 200, "+9"])
def test_a_folder_that_is_no_step_is_none(tmp_path, name):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        save(checkpoints, 1)
    (tmp_path / "checkpoints" / name).mkdir()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.list_steps() == [1]
        assert checkpoints.restore(abstract()).step == 1


def test_a_file_in_the_quarantines_place_is_said(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        save(checkpoints, 1)
    (tmp_path / "checkpoints" / "9").mkdir()
    (tmp_path / "quarantine").write_text("x")
    with (
        pytest.raises(UserError, match="quarantine is no folder, and damaged checkpoints"),
        Checkpoints(tmp_path / "checkpoints") as checkpoints,
    ):
        checkpoints.restore(abstract())
