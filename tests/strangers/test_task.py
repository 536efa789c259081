"""A task that nothing in the program knows, by its name alone and configured in an experiment."""

import json

import numpy as np
import pytest

from launch.run import main

TASK = "tests.strangers.task:Brightness"


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "samples" / "4"
    folder.mkdir(parents=True)
    np.savez(folder / "samples.npz", images=np.full((3, 8, 8, 1), 1.23456))
    return tmp_path


@pytest.mark.parametrize(
    ("experiment", "brightness"),
    [("digits_vp", "1.23"), ("tests.strangers.task:digits_bright", "1.2346")],
)
def test_it_runs_with_its_defaults_or_as_the_experiment_says(
    workdir, capsys, experiment, brightness
):
    assert main([f"--exp={experiment}", f"--task={TASK}", f"--workdir={workdir}"]) == 0
    assert (workdir / "brightness.txt").read_text() == brightness
    assert ["brightness", brightness] in map(str.split, capsys.readouterr().out.splitlines())
    (launch,) = json.loads((workdir / "run.json").read_text())["launches"]
    assert (launch["task"], launch["outcome"]) == (TASK, "done")


def test_it_may_follow_a_training(capsys):
    assert main(["--exp=tests.strangers.task:digits_bright", "--describe=full"]) == 0
    assert f"after_training = ('sample', '{TASK}')" in capsys.readouterr().out
    setting = "--set=after_training=('tests.strangers.task:Brightnes',)"
    assert main(["--exp=digits_vp", "--describe", setting]) == 2
    assert "did you mean Brightness?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("nowhere:Thing", "There is no module 'nowhere' for the task 'nowhere:Thing'"),
        ("tests.strangers.task:Brightnes", "did you mean Brightness?"),
        ("diffusion_ode.diffusion.model:Model", "has no class 'Model' with a method `run`"),
        ("tests.strangers.test_task:Unready", "needs depth: configure it in the experiment's"),
    ],
)
def test_a_wrong_one_is_refused_in_one_sentence(capsys, tmp_path, task, says):
    assert main(["--exp=digits_vp", f"--task={task}", f"--workdir={tmp_path / 'new'}"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


class Unready:
    def __init__(self, depth):
        self.depth = depth

    def run(self, run): ...
