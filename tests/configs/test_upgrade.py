"""A run of version 0.1 goes on, is shown and is loaded as if today's program had begun it."""

import itertools
import json
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest

from diffusion_ode.configs import documents, upgrade
from diffusion_ode.configs.upgrade import upgraded
from diffusion_ode.inference.diffusion_model import DiffusionModel
from experiments import registry
from experiments.config.conversion import to_document
from experiments.config.overrides import override
from launch.run import main

ARCHIVE = Path(__file__).parents[1] / "golden" / "run_of_0_1.tar.gz"
# As the command line of the old run says; then all images were trained on, and a probe was held.
SETTINGS = (
    *("model.network.features=32", "model.network.blocks=1", "train.num_steps=8"),
    "train.optimizer=adamw(learning_rate=warmed_up_then_cosine(peak=4e-3, warmup_steps=150))",
    *("train.log_every=1", "train.checkpoint_every=4", "after_training=()", "data.held_out=0"),
    "evaluate.ode.divergence.segments=1",
)
# Rounding may differ on other processors, and where the compiler fuses otherwise.
ROUNDING = 1e-5
# What the machine decides, and not the numbers.
MEASURED = {"train/images_per_second", "train/mfu", "train/input_wait"}


@pytest.fixture
def workdir(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run_of_0_1"


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_old_run_goes_on_with_the_metrics_that_the_old_program_wrote(workdir, capsys):
    old = metrics(workdir)
    assert main(["--exp=digits_vp", f"--workdir={workdir}", *(f"--set={s}" for s in SETTINGS)]) == 0
    new = metrics(workdir)
    assert [line["step"] for line in new] == [line["step"] for line in old]
    for then, now in zip(old[4:], new[4:], strict=True):
        told = {"train/diffusion_bpd": now["train/bpd"], **now}  # its only part: one curve
        for name in then.keys() - MEASURED:
            assert told[name] == pytest.approx(then[name], rel=ROUNDING), (then["step"], name)
    said = capsys.readouterr().out
    assert "resuming at step 4" in said
    assert "changed since the last training here" not in said


def test_old_run_is_loaded_with_every_field_that_is_new_since(workdir):
    model = DiffusionModel.load(workdir)
    assert model.facts["step"] == 4
    assert model.model.network.features == 32
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert model.model.pixels.check(images).shape == images.shape


def test_old_config_differs_from_todays_in_nothing():
    with tarfile.open(ARCHIVE) as archive:
        config = archive.extractfile("run_of_0_1/config.json")
        result = archive.extractfile("run_of_0_1/evaluations/4-truncated_normal-k1/result.json")
        assert config and result
        stored, judged = json.load(config), json.load(result)["config"]
    entry = registry.find("digits_vp")
    today = to_document(override(registry.configuration_of(entry), SETTINGS))
    assert list(map(str, documents.difference(upgraded(stored), today))) == []
    assert upgraded(today) == today
    assert {change.path for change in documents.difference(upgraded(judged), today)} == {
        *("evaluate.num_images", "evaluate.error_images"),
    }


def test_moved_renamed_removed_and_new_fields_are_as_the_tables_say(monkeypatch):
    name = "diffusion_ode.diffusion.schedule:LinearSchedule"
    monkeypatch.setattr(upgrade, "RENAMED_FIELDS", {name: {"start": "gamma_0"}})
    monkeypatch.setattr(upgrade, "REMOVED_FIELDS", {name: frozenset({"steps"})})
    monkeypatch.setattr(upgrade, "BEHAVED_AS", {name: {"gamma_1": 4.0}})
    old = {"call": "diffusion_ode.process.schedule:LinearSchedule"}
    now = {"call": name, "arguments": {"gamma_0": -7.0, "gamma_1": 4.0}}
    document = {"tuple": [{**old, "arguments": {"steps": 3, "start": -7.0}}]}
    assert upgraded(document) == {"tuple": [now]}


@pytest.mark.parametrize(
    "document",
    [
        {"call": "os:system", "arguments": {"command": "touch /tmp/x"}},
        {"call": "diffusion_ode.gone:Thing", "arguments": {"x": 1}},
        {"call": "diffusion_ode.diffusion.schedule:Gone", "arguments": {}},
        {"call": 3, "arguments": None},
        [1, {"name": "os:system"}, None],
    ],
)
def test_what_it_cannot_make_sense_of_is_left_alone(document):
    assert upgraded(document) == document


def test_commands_of_the_old_run_are_still_understood(workdir):
    launches = json.loads((workdir / "run.json").read_text())["launches"]
    for launch in launches:
        words = shlex.split(launch["command"])[2:]
        settings = [b for a, b in itertools.pairwise(words) if a == "--set"]
        override(registry.configuration_of(registry.find("digits_vp")), settings)
