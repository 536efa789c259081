"""What a training leaves behind, by the names that scripts rely on."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.records import read_records
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.train import Train
from diffusion_ode.tasks.train_in_words import steps_in_words
from diffusion_ode.training.beginning import begin
from diffusion_ode.training.data_identity import DataIdentity
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.warm_start import WarmStart
from diffusion_ode.workdir.code import code_facts
from diffusion_ode.workdir.provenance import recorded
from diffusion_ode.workdir.result_files import read_json
from tests.tasks.conftest import experiment, run_in


def test_names_of_config_fields_stay():
    made = experiment()
    names = {
        "train": {"num_steps", "batch_size", "log_every", "checkpoint_every", "accumulation"},
        "evaluate": {"num_images", "num_importance"},
        "sample": {"num_images"},
        "mesh": {"data", "fsdp"},
    }
    for part, fields in names.items():
        assert fields <= {field.name for field in dataclasses.fields(getattr(made, part))}
    assert {"seed"} <= {field.name for field in dataclasses.fields(Train)}
    assert made.after_training == ("evaluate", "sample")


def test_metrics_are_logged_by_their_names(trained_workdir):
    lines = [json.loads(line) for line in (trained_workdir / "metrics.jsonl").open()]
    assert [line["step"] for line in lines] == [1, 2]
    for name in ("bpd", "gradient_norm", "learning_rate", "images_per_second"):
        assert np.isfinite(lines[-1][f"train/{name}"])
    assert "train/diffusion_bpd" not in lines[-1]  # its only part: the same curve
    assert 0.0 < lines[0]["wall_time"] <= lines[1]["wall_time"] <= time.time()
    assert any((trained_workdir / "tensorboard").iterdir())


def test_checkpoint_knows_the_data_it_was_made_from(trained_workdir):
    checkpoints = StoredCheckpoints(trained_workdir / "checkpoints")
    assert checkpoints.read_document()["call"] == "Experiment"
    assert checkpoints.list_steps() == [2]


def test_checkpoint_knows_the_code_and_the_seed_it_was_made_with(trained_workdir):
    facts = read_records(trained_workdir / "checkpoints" / "2").facts
    (note,) = read_json(trained_workdir / "history.json")["settings"]
    assert (facts["seed"], note["after_step"]) == (0, 0)
    now = code_facts()
    outside_now = now.pop("outside", {})
    for code in (facts["code"], note["code"]):
        # Other tests may have imported more modules since.
        assert code.pop("outside", {}).items() <= outside_now.items()
        assert code == now


def test_a_run_that_has_what_it_is_asked_for_trains_nothing_and_says_so(trained_workdir, tmp_path):
    shutil.copytree(trained_workdir, tmp_path / "copy")
    made = experiment()
    made = dataclasses.replace(made, train=dataclasses.replace(made.train, num_steps=1))
    files = ("config.json", "metrics.jsonl", "history.json")
    before = [(tmp_path / "copy" / file).read_bytes() for file in files]
    result = made.train.run(run_in(tmp_path / "copy", made))
    assert ("trained", "nothing: 2 steps are there, and 1 are asked for") in result.rows
    assert [(tmp_path / "copy" / file).read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("before", "taken", "says"),
    [
        (0, 1, "1 step of 8 images"),
        (20, 10, "10 steps of 8 images, after 20 that were there"),
        (0, 20, "20 steps of 8 images; stopped early, before 30"),
    ],
)
def test_the_summary_tells_the_steps_of_this_launch(before, taken, says):
    asked_for = 30 if "early" in says else before + taken
    assert steps_in_words(before, taken, asked_for, 8) == says


def test_batch_that_does_not_fit_the_devices_is_refused_before_anything_is_written(tmp_path):
    made = dataclasses.replace(
        experiment(), train=Train(num_steps=1, batch_size=9, accumulation=2), mesh=Mesh()
    )
    with pytest.raises(UserError, match=r"train\.batch_size = 9 is not a multiple of 2"):
        made.train.run(run_in(tmp_path, made))
    assert not list(tmp_path.iterdir())


def removed(workdir):
    shutil.rmtree(workdir)


def emptied(workdir):
    for path in workdir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def emptied_by_a_shell(workdir):  # whose * leaves what begins with a dot
    for path in workdir.glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def put_elsewhere(workdir):
    workdir.rename(workdir.with_name("elsewhere"))


def replaced_by_a_file(workdir):
    shutil.rmtree(workdir)
    workdir.write_text("")


@dataclasses.dataclass
class Meddling:
    """A metric writer that does something to the workdir at step 2."""

    meddle: Callable[[Path], None]

    def open(self, workdir):
        self.workdir = workdir

    def resume_at(self, step): ...

    def write_scalars(self, step, scalars):
        if step == 2:
            self.meddle(self.workdir)

    def write_image(self, step, name, image): ...

    def close(self): ...


@pytest.mark.parametrize(
    "meddle", [removed, emptied, emptied_by_a_shell, put_elsewhere, replaced_by_a_file]
)
def test_a_workdir_that_goes_away_is_noticed_at_the_next_save_and_not_made_anew(meddle, tmp_path):
    made = experiment()
    train = dataclasses.replace(
        made.train, num_steps=6, checkpoint_every=4, writers=(Meddling(meddle),)
    )
    made = dataclasses.replace(made, train=train)
    workdir = tmp_path / "run"
    with (
        pytest.raises(UserError, match=r"run has been removed, emptied, put elsewhere or taken"),
        recorded(workdir, task="train") as record,
    ):
        train.run(dataclasses.replace(run_in(workdir, made), recorder=record))
    assert not workdir.is_dir()  # one that is empty but for our lock goes with it
    assert workdir.exists() == (meddle is replaced_by_a_file)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{tmp_path}/nowhere", "holds no checkpoints to start from"),
        ("{trained}@77", r"has no checkpoint 77: choose one of the steps \[2\]"),
    ],
)
def test_a_warm_start_from_nowhere_is_refused_before_anything_is_written(
    source, says, trained_workdir, tmp_path, capsys
):
    made = experiment()
    init_from = source.format(tmp_path=tmp_path, trained=trained_workdir)
    run = dataclasses.replace(run_in(tmp_path / "new", made), init_from=init_from)
    with pytest.raises(UserError, match=says):
        made.train.run(run)
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""  # nor shown


def beginning_on(data, tmp_path, warm_start, init_from, say):
    made = experiment()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    return begin(made.train.program(made), checkpoints, warm_start, init_from, data, say)


def test_a_run_goes_on_from_its_parent_on_the_same_data_only(trained_workdir, tmp_path):
    parents = WarmStart(source=str(trained_workdir))
    images = experiment().data.load()
    same = DataIdentity(images.manifest.name, images.fingerprint)
    assert beginning_on(same, tmp_path, parents, None, pytest.fail).state.step == 2
    other = DataIdentity("others", "0123456789abcdef")
    with pytest.raises(UserError, match=r"was trained on digits \(.*data now are others \(0123"):
        beginning_on(other, tmp_path, parents, None, pytest.fail)


def test_a_run_told_to_start_from_other_data_does_and_says_so(trained_workdir, tmp_path):
    said = []
    other = DataIdentity("others", "0123456789abcdef")
    start = beginning_on(other, tmp_path, WarmStart(), str(trained_workdir), said.append)
    assert start.state.step == 2
    fingerprint = experiment().data.load().fingerprint
    assert said == [f"starting on other data: digits ({fingerprint}) → others (0123456789abcdef)"]


@pytest.mark.parametrize("field", ["num_steps", "accumulation", "log_every", "num_pictures"])
def test_numbers_below_one_are_refused(field):
    with pytest.raises(UserError, match=rf"{field} = 0 is not an int in \[1, "):
        Train(**{field: 0})
