"""The published experiments really run, at toy width, on data in their publishers' formats.

Each launch is a process of its own in an empty folder, as typed: what fine-tuning starts from is
where the first run has left it.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.prepare import convert_published
from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.stored import Restored, StoredCheckpoints
from diffusion_ode.configs import construction, documents
from diffusion_ode.training.beginning import begin
from diffusion_ode.training.data_identity import DataIdentity
from tests.data.conftest import MAKERS
from tests.published_checkpoint import random_trees, small_model, write_published

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("cifar10-binary", "imagenet32_old-tar", "imagenet32_new-pickle")
TOY = (
    *("model.network.features=32", "model.network.blocks=1"),
    *("train.num_steps=2", "train.batch_size=4", "train.log_every=1", "train.checkpoint_every=2"),
    *("evaluate.num_images=2", "evaluate.bound.draws=1", "evaluate.ode.lanes=2"),
    "evaluate.error_images=0",
    *("evaluate.ode.solver=heun()", "evaluate.ode.controller=fixed_steps(3)"),
    "sample.num_images=2",
    "sample.sampler=ode_sampler(solver=heun(), controller=fixed_steps(3), lanes=2)",
)


class Folder:
    """Where one stands: prepared data, and the runs made there."""

    def __init__(self, path: Path):
        self.path = path
        for form in FORMS:
            published = path / form
            published.mkdir()
            made = MAKERS[form](published)
            convert_published(made.recipe, made.path, path / "data")

    def launch(self, experiment: str, *flags: str) -> "Results":
        settings = [f"--set={setting}" for setting in TOY]
        command = [ROOT / "launch/run.py", f"--exp={experiment}", *settings, *flags]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.path,
            env=os.environ | {"DIFFUSION_ODE_DATA": str(self.path / "data")},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return Results(self.path / "runs" / experiment, done.stdout)


class Results:
    """What a run has left in its workdir, and shown."""

    def __init__(self, workdir: Path, shown: str):
        self.workdir = workdir
        self.shown = shown

    def experiment(self) -> Any:
        return construction.build(documents.read(self.workdir / "config.json"))

    def newest(self) -> Restored:
        """The whole state, with what is known of it."""
        abstract = self.experiment().train.program(self.experiment()).abstract_state
        return StoredCheckpoints(self.workdir / "checkpoints").restore(abstract)

    def counts(self) -> tuple[int, int, int]:
        """(step, step at which the run began, steps that Adam has counted), of the newest."""
        state = self.newest().state
        return int(state.step), int(state.first_step), int(state.optimizer[0].count)

    def logged_steps(self) -> list[int]:
        lines = (self.workdir / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    def result(self) -> dict:
        (path,) = (self.workdir / "evaluations").glob("*/result.json")
        return json.loads(path.read_text())

    def images(self) -> np.ndarray:
        (path,) = (self.workdir / "samples").glob("*/samples.npz")
        assert path.with_name("grid.png").exists()
        return np.load(path)["images"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("standing_here"))


def check_judged(results: Results, data: str, num_importance: int, num_images: int = 2) -> None:
    """Evaluation and samples followed the training by themselves."""
    result = results.result()
    assert (result["data"]["name"], result["data"]["num_images"]) == (data, num_images)
    assert result["ode"]["dequantization"] == "truncated_normal"
    assert result["ode"]["num_importance"] == num_importance
    assert np.isfinite(result["ode"]["bpd"])
    assert np.isfinite(result["bound"]["bpd"])
    assert results.images().shape == (2, 32, 32, 3)


LEAVES = {
    "parameters": lambda state: state.parameters["conv_out"]["kernel"],
    "average": lambda state: state.ema["conv_out"]["kernel"],
    "first moment": lambda state: state.optimizer[0].mu["conv_out"]["kernel"],
}


def check_began_where_the_parent_ended(child: Results, parent: Results) -> None:
    """By the state that the child's own config begins with, leaf by leaf."""
    experiment, parents = child.experiment(), parent.newest()
    program, warm_start = experiment.train.program(experiment), experiment.train.warm_start
    data = DataIdentity.of_facts(parents.facts)
    nothing = Checkpoints(child.workdir / "no_checkpoints")
    start = begin(program, nothing, warm_start, None, data, pytest.fail).state
    fresh = program.fresh_state()
    for what, leaf in LEAVES.items():
        found, expected = np.asarray(leaf(start)), np.asarray(leaf(parents.state))
        np.testing.assert_array_equal(found, expected, err_msg=what)
        assert not np.array_equal(found, np.asarray(leaf(fresh))), f"{what} untrained: no test"
    assert not np.array_equal(LEAVES["average"](start), LEAVES["parameters"](start))


@pytest.mark.parametrize(
    ("experiment", "data", "accumulation"),
    [
        ("cifar10_vp", "cifar10", 1),
        ("imagenet32_old_sp", "imagenet32_old", 4),
        ("imagenet32_new_sp", "imagenet32_new", 1),
    ],
)
def test_training_then_finetuning_then_evaluating_then_sampling(
    folder, monkeypatch, experiment, data, accumulation
):
    first = folder.launch(experiment, "--set=after_training=()")
    assert first.counts() == (2, 0, 2)

    finetuned = folder.launch(f"{experiment}_finetune")
    train = documents.read(finetuned.workdir / "config.json")["arguments"]["train"]["arguments"]
    assert train["accumulation"] == accumulation
    assert finetuned.counts() == (4, 2, 4)  # optimiser steps, whatever a batch is divided into
    assert finetuned.logged_steps() == [3, 4]
    monkeypatch.chdir(folder.path)
    check_began_where_the_parent_ended(finetuned, first)
    check_judged(finetuned, data, num_importance=1)


def test_augmented_training_is_judged_with_twenty_draws(folder):
    augmented = folder.launch("cifar10_aug_vp", "--set=evaluate.num_images=1")
    assert augmented.counts() == (2, 0, 2)
    check_judged(augmented, "cifar10", num_importance=20, num_images=1)


def test_published_checkpoint_is_judged_and_sampled_without_training(folder):
    path = write_published(folder.path, random_trees(small_model()), step=600)
    flags = (f"--init_from=reference:{path.name}", "--workdir=runs/published")
    judged = folder.launch("cifar10_vp", "--task=evaluate", *flags)
    following = judged.shown.splitlines()[-1]
    assert {*flags, "--task=sample"} <= set(shlex.split(following))
    folder.launch("cifar10_vp", "--task=sample", *flags)
    published = Results(folder.path / "runs/published", "")
    assert published.result()["checkpoint"]["step"] == 600
    assert published.result()["checkpoint"]["digest"].startswith("sha256:")
    assert published.images().shape == (2, 32, 32, 3)
    assert not (published.workdir / "checkpoints").exists()
