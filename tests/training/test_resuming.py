"""A run that is killed goes on as if nothing had happened: real processes, killed at random."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffusion_ode.checkpoints.records import read_records

ROOT = Path(__file__).resolve().parents[2]
STEPS = 40
SETTINGS = {
    "train.num_steps": STEPS,
    "train.batch_size": 8,
    "train.log_every": 7,
    "train.checkpoint_every": 4,
    "train.pictures_every": None,
    "model.network.features": 32,
    "model.network.blocks": 1,
    "after_training": (),
}


def launch(workdir: Path, *flags: str, **settings) -> subprocess.Popen:
    sets = [f"--set={path}={value!r}" for path, value in (SETTINGS | settings).items()]
    command = ["launch/run.py", "--exp=digits_vp", f"--workdir={workdir}", *sets, *flags]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def saved_steps(workdir: Path) -> list[int]:
    folder = workdir / "checkpoints"
    return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdigit())


def wait_until(condition, process: subprocess.Popen) -> None:
    """Until the condition holds or the process has ended by itself."""
    while not condition() and process.poll() is None:
        time.sleep(0.002)


def final_moment(workdir: Path) -> tuple[dict, dict]:
    """The iterator's state, and a digest of the bits of every array, by name."""
    records = read_records(workdir / "checkpoints" / str(STEPS))
    return records.data_state, {name: leaf.digest for name, leaf in records.leaves.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    finished(launch(workdir))
    return workdir


def test_run_killed_at_random_moments_ends_bit_for_bit_like_the_undisturbed_one(
    undisturbed, tmp_path
):
    chance = random.Random(int(os.environ.get("PYTEST_SEED", "20230518")))
    moments = [
        # While a checkpoint is being written: its folder has Orbax's temporary name.
        lambda: any("tmp" in entry.name for entry in (tmp_path / "checkpoints").glob("*")),
        lambda: bool(saved_steps(tmp_path)) and chance.random() < 0.02,
        lambda: max(saved_steps(tmp_path), default=0) > 14 and chance.random() < 0.01,
    ]
    killed_at = []
    for moment in moments:
        process = launch(tmp_path)
        wait_until(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed_at.append(saved_steps(tmp_path))
    output = finished(launch(tmp_path))
    assert "resuming at step" in output, (killed_at, output)

    data_state, digests = final_moment(tmp_path)
    assert (data_state, digests) == final_moment(undisturbed)
    for field in ("parameters", "ema", "optimizer", "step"):
        assert any(field in name for name in digests), f"{field} is not compared"
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)), "a resume doubled points"
    assert steps[-1] == STEPS


@pytest.mark.parametrize("during", ["compilation", "training"])
def test_sigterm_saves_and_exits_with_75(during, tmp_path):
    process = launch(tmp_path, **{"train.num_steps": 100_000})
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if during == "compilation" and "compiling" in line:
            break
        if during == "training" and line.startswith("step"):
            break
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, "".join(seen) + output
    if during == "training":
        assert saved_steps(tmp_path), "nothing was saved"


def test_sigterm_during_evaluation_exits_with_75_and_keeps_what_is_done(undisturbed):
    process = launch(undisturbed, "--task=evaluate")
    assert process.stdout is not None
    rows = lambda: sum(1 for path in undisturbed.rglob("per_example.csv") for _ in path.open())  # noqa: E731
    wait_until(lambda: rows() > 1, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert rows() > 1


def test_second_launcher_in_the_workdir_is_refused_naming_the_first(tmp_path):
    first = launch(tmp_path, **{"train.num_steps": 100_000})
    assert first.stdout is not None
    next(line for line in first.stdout if "compil" in line)
    try:
        second = launch(tmp_path)
        output, _ = second.communicate(timeout=120)
        assert second.returncode == 2
        assert str(first.pid) in output
        assert "Traceback" not in output
    finally:
        first.kill()
        first.communicate()
