"""Each door's page shows the stranger that the tests take through it, and is followed here."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from diffusion_ode.tasks import registry as tasks
from docs import doors
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import field_paths, override
from launch import flags
from launch.run import main

GOAL = 40  # lines
TINY = ("model.network.features=32", "model.network.blocks=1", "model.network.depth=1")


def test_the_pages_are_as_the_script_writes_them():
    stale = [path.name for path, text in doors.files().items() if path.read_text() != text]
    assert not stale, f"python docs/doors.py, for {stale}"


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_door_takes_one_file_and_one_command(door):
    page = (doors.PAGES / f"{door}.md").read_text()
    assert re.findall(r"^```(\w+)$", page, re.MULTILINE) == ["python", "console"]
    assert f"--exp=my_{door}:" in page
    assert doors.lines(door) <= GOAL


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_door_s_file_and_command_do_what_the_page_says(door, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry.entries()
    # Not those that other tests have taken from outside, whose names the page gives, too.
    ours = {n: e for n, e in registry._ENTRIES.items() if "tests." not in e.function.__module__}
    monkeypatch.setattr(registry, "_ENTRIES", ours)
    page = (doors.PAGES / f"{door}.md").read_text()
    code, command = (
        re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[0]
        for language in ("python", "console")
    )
    Path(f"my_{door}.py").write_text(code, encoding="utf-8")
    importlib.invalidate_caches()  # the folder was looked into in the same tick of its clock
    program, script, *words = shlex.split(command.removeprefix("$ ").replace("\\\n", ""))
    assert (program, script) == ("python", "launch/run.py")
    assert main([*words, "--describe", "--device=h100"]) == 0, capsys.readouterr().err

    request = flags.read(words)
    config = override(
        registry.configuration_of(registry.find(request.experiment)), request.overrides
    )
    smaller = [s for s in TINY if s.partition("=")[0] in field_paths(config)]
    experiment = build(override(config, smaller))
    if request.task == "train":
        program = experiment.train.program(experiment, experiment.mesh.build())
        assert program.lower_step().as_text()  # all of a step is traced
    else:
        assert tasks.configured(tasks.find(request.task), experiment)


def test_no_file_of_the_program_knows_a_stranger():
    assert doors.edits() == []


def test_the_experiment_in_contributing_builds(monkeypatch):
    registry.entries()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    text = (doors.PAGES.parents[1] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    exec(code, {"__name__": "contributing"})
    assert build(registry.configuration_of(registry.find("digits_cosine")))
