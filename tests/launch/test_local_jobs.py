"""Several processes at a time, none of which outlives its sweep."""

import os
import signal
import sys
import time

import pytest

from diffusion_ode.errors import UserError
from launch import local_jobs
from launch.local_jobs import Job, check_at_once, run_jobs
from launch.progress_of_runs import reason

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ends well on SIGTERM, as a run that saves does.
_SAVES = "trap 'echo saved; exit 75' TERM; echo begun; while :; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def heard():
    """Signals that a shell's background jobs ignore are heard."""
    before = {one: signal.signal(one, signal.default_int_handler) for one in _HEARD}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.fixture
def jobs(tmp_path):
    def make(*scripts):
        return [
            Job(f"{number}", ["sh", "-c", script], tmp_path / "logs" / f"{number}.txt")
            for number, script in enumerate(scripts)
        ]

    return make


def test_failed_one_says_why_and_the_others_go_on(jobs):
    made, ended, together = jobs("echo why >&2; exit 1", "kill -9 $$", "exit 0"), {}, []

    def begin(job):
        together.append(job.name)

    assert run_jobs(made, 2, begin, lambda job, status, _: ended.update({job.name: status}), print)
    assert together == ["0", "1", "2"]
    assert ended == {"0": 1, "1": -signal.SIGKILL, "2": 0}
    assert reason(1, made[0].log) == "status 1: why"
    assert reason(-signal.SIGKILL, made[1].log).startswith("killed by SIGKILL")


def test_what_nohup_ignores_stays_ignored(jobs):
    before, ended = signal.signal(signal.SIGHUP, signal.SIG_IGN), {}

    def begin(job):
        os.kill(os.getpid(), signal.SIGHUP)

    try:
        note = lambda job, status, _: ended.update({job.name: status})  # noqa: E731
        assert run_jobs(jobs("exit 0", "exit 0"), 1, begin, note, print)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ended == {"0": 0, "1": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_lets_runs_save_and_begins_no_other(jobs, number):
    made, ended, told = jobs(_SAVES, _SAVES, "exit 0"), {}, []
    before = signal.getsignal(number)

    def begin(job):
        while not (job.log.exists() and "begun" in job.log.read_text()):
            time.sleep(0.01)
        if job.name == "1":
            os.kill(os.getpid(), number)

    assert not run_jobs(
        made, 2, begin, lambda job, status, _: ended.update({job.name: status}), told.append
    )
    assert told == [2]
    assert ended == {"0": 75, "1": 75}
    assert all("saved" in job.log.read_text() for job in made[:2])
    assert signal.getsignal(number) is before


def test_second_interruption_ends_what_does_not_end(jobs):
    ended = {}

    def begin(job):
        while "begun" not in job.log.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def stopping(_):
        os.kill(os.getpid(), signal.SIGINT)

    stubborn = jobs("trap '' TERM; echo begun; while :; do sleep 0.05; done")
    assert not run_jobs(
        stubborn, 1, begin, lambda job, status, _: ended.update({job.name: status}), stopping
    )
    assert ended == {"0": -signal.SIGKILL}


def test_each_of_several_jobs_has_a_gpu_to_itself(jobs, monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(UserError, match=r"--jobs=3 is more than the GPUs.* at most --jobs=2"):
        check_at_once(3)
    script = f"{sys.executable} -c 'import os; print(os.environ[\"CUDA_VISIBLE_DEVICES\"])'"
    made = jobs(script, script)
    assert run_jobs(made, 2, lambda _: None, lambda *_: None, print)
    assert sorted(job.log.read_text() for job in made) == ["3\n", "5\n"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert local_jobs.gpus() == []
    check_at_once(3)
