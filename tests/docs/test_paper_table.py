"""The page from pictures to a table does what it says: in full where there are minutes."""

import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from data import prepare
from launch import report, sweep
from launch.grid import points, read_axis
from tests.finished_run import finished_run

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "paper_table.md").read_text()
TWO_CORES_FOR_TEN_MINUTES = 2 * 600.0  # seconds


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    """What stands behind a $, with the lines that go on."""
    lines = [block.replace("\\\n", "") for block in blocks("console")]
    return [line[2:] for block in lines for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder from which the commands reach the program, with the page's pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFUSION_ODE_DATA", str(tmp_path / "data_dir"))
    for name in ("data", "diffusion_ode", "experiments", "launch"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run([sys.executable, "-c", blocks("python")[0]], check=True)
    return tmp_path


def test_commands_of_the_page_are_understood(place, capsys):
    preparing, sweeping, reporting, for_the_paper = map(shlex.split, commands())
    assert prepare.main(preparing[3:]) == 0
    asked_for = capsys.readouterr().out
    assert "of 8×8×3, 256 levels" in asked_for
    settings = re.findall(r"--set ('.*?'|\S+)", asked_for)
    assert len(settings) == 3
    assert all(setting in " ".join(commands()[1].split()) for setting in settings)
    assert sweep.main([*sweeping[2:], "--show"]) == 0
    names = re.findall(r"to do +(\S+)", capsys.readouterr().out)
    assert len(names) == 6
    for number, name in enumerate(names):
        model, seed = name.split(",seed=")
        made = points([model], [read_axis(f"train.seed={seed}")], ())
        bits, curve = [5.0 + 0.1 * number, 6.0], {10: 8.0, 20: 7.0}
        workdir = place / "runs" / "paper" / name
        finished_run(workdir, bits, document=made[0].document, experiment=model, curve=curve)
    assert report.main(reporting[2:]) == 0
    assert "photos_sp,seed={0,1,2}" in capsys.readouterr().out
    assert report.main(for_the_paper[2 : for_the_paper.index(">")]) == 0
    assert r"photos\_sp &" in capsys.readouterr().out
    assert (place / "curves.pdf").stat().st_size > 1000


@pytest.mark.long
def test_page_leads_from_pictures_to_a_table_within_ten_minutes_on_two_cores(place):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in commands():
        subprocess.run(["bash", "-c", command], check=True, env={**os.environ, "PATH": path})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < TWO_CORES_FOR_TEN_MINUTES
    rows = re.findall(r"photos\\_(vp|sp) & (.*) \\\\", (place / "table.tex").read_text())
    assert {model for model, _ in rows} == {"vp", "sp"}
    for _, figures in rows:
        assert re.search(r"\$\d\.\d+ \\pm \d\.\d+ \(\\pm \d\.\d+\)\$", figures)
    assert (place / "curves.pdf").read_bytes().startswith(b"%PDF")
