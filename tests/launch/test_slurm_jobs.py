"""Job arrays, with stand-ins for SLURM's commands that run the array."""

import os
import pickle
import stat
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffusion_ode.errors import UserError
from launch.local_jobs import Job
from launch.slurm_jobs import _NUMBERED, SlurmLaunch, queued, submit

PATIENCE = 120.0  # seconds, for a busy machine
_STAND_INS = {
    "sbatch": """
        [ -e {folder}/refuse ] && {{ echo "invalid partition" >&2; exit 1; }}
        cp "$1" {folder}/array.sh
        for i in 0 1; do
            SLURM_JOB_ID=$((43 + i)) SLURM_ARRAY_JOB_ID=42 SLURM_ARRAY_TASK_ID=$i sh "$1" &
        done > {folder}/jobs.txt 2>&1
        echo "Submitted batch job 42"
    """,
    "srun": """
        while [ "${{1#-}}" != "$1" ]; do
            case $1 in --output|--error) shift 2;; *) shift;; esac
        done
        exec "$@"
    """,
    "squeue": "echo 42_1",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in _STAND_INS.items():
        path = commands / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(script).format(folder=tmp_path))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    return tmp_path


def jobs(folder):
    return [Job(n, ["sh", "-c", f"echo {n} ran"], folder / "logs" / f"{n}.txt") for n in "ab"]


def test_array_runs_every_job_and_what_is_still_queued_is_known(slurm):
    asked = {"time": "1-01:30:00", "partition": "gpu", "hint": "nomultithread"}
    assert queued(slurm / "slurm") == {}
    assert submit(jobs(slurm), slurm / "slurm", asked, 1) == {"a": "42_0", "b": "42_1"}
    end = time.monotonic() + PATIENCE
    while not all(job.log.exists() and job.log.read_text() for job in jobs(slurm)):
        assert time.monotonic() < end, (slurm / "jobs.txt").read_text()
        time.sleep(0.1)
    assert [job.log.read_text() for job in jobs(slurm)] == ["a ran\n", "b ran\n"]
    script = (slurm / "array.sh").read_text()
    for line in ("array=0-1%1", "time=1530", "partition=gpu", "hint=nomultithread"):
        assert f"#SBATCH --{line}\n" in script
    assert queued(slurm / "slurm") == {"b": "42_1"}


def test_job_that_must_leave_saves_and_is_queued_again(tmp_path):
    log = tmp_path / "log.txt"
    script = "trap 'echo saved; exit 75' TERM; echo begun; while :; do sleep 0.05; done"
    launch = SlurmLaunch(["sh", "-c", script], str(log))
    with ThreadPoolExecutor() as pool:
        status = pool.submit(launch)
        while not (log.exists() and log.read_text()):
            time.sleep(0.05)
        again = launch.checkpoint()
        assert log.read_text() == "begun\nsaved\n"
        assert status.result() == 75
    assert again.function is launch
    pickle.dumps(again)


def test_what_slurm_refuses_is_said_in_a_sentence(slurm):
    (slurm / "refuse").touch()
    with pytest.raises(UserError, match=r"^SLURM refuses the jobs \(.*invalid partition"):
        submit(jobs(slurm), slurm / "slurm", {"time": "10"}, 2)
    with pytest.raises(UserError, match="time=8:00:00"):
        submit(jobs(slurm), slurm / "slurm", {"partition": "gpu"}, 2)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("additional_parameters", "x", "is for a sweep to say"),
        ("array", "1-5", "is for a sweep to say"),
        ("folder", "x", "is for a sweep to say"),
        ("nodes", "x", "SLURM refuses the jobs"),
        ("setup", "x", "SLURM refuses the jobs"),
        ("comment", "x\n#SBATCH --evil", "is no option of sbatch's"),
        ("a b", "x", "is no option of sbatch's"),
        ("time", "0", "time=8:00:00"),
        ("time", "9" * 5000, "time=8:00:00"),
    ],
)
def test_an_option_that_nothing_can_come_of_is_a_sentence(slurm, name, value, says):
    with pytest.raises(UserError, match=says) as refusal:
        submit(jobs(slurm), slurm / "slurm", {"time": "10", name: value}, 2)
    assert "\n" not in str(refusal.value)


def test_machine_without_slurm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="There is no SLURM here"):
        submit(jobs(tmp_path), tmp_path / "slurm", {"time": "10"}, 2)


@pytest.mark.parametrize("text", ["[]", "null", "x"])
def test_a_damaged_list_of_the_jobs_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / _NUMBERED).write_text(text)
    with pytest.raises(UserError, match=f"{_NUMBERED} is not "):
        queued(tmp_path)
