"""One writer per workdir."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.workdir import files, named_lock
from diffusion_ode.workdir.lock import workdir_lock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time, pathlib
from diffusion_ode.workdir.lock import workdir_lock
with workdir_lock(pathlib.Path(sys.argv[1]), "python launch/run.py '--exp=a b'"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_told_who_is_first(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError) as refusal, workdir_lock(tmp_path / "new"):
            pass
        said = str(refusal.value)
        assert f"process {holder.pid} on {os.uname().nodename}" in said
        assert "`python launch/run.py '--exp=a b'`, started 20" in said
        assert "--workdir" in said
        holder.send_signal(signal.SIGKILL)
    with workdir_lock(tmp_path / "new"):
        pass  # the kernel has freed it


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("much work")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"\.lock is a link, which is not followed"):
        workdir_lock(tmp_path).__enter__()
    assert (tmp_path / "precious").read_text() == "much work"


@pytest.fixture
def no_flock(monkeypatch):
    """As on a file system that has none; and what is waited for comes soon."""

    def flock(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    monkeypatch.setattr(named_lock, "REFRESHED_EVERY", 0.1)
    monkeypatch.setattr(named_lock, "SILENT_FOR", 0.5)
    monkeypatch.setattr(named_lock, "_BETWEEN_LOOKS", 0.02)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_without_flock_what_is_no_file_in_the_locks_place_is_said(tmp_path, no_flock, kind):
    if kind == "folder":
        (tmp_path / ".lock.held").mkdir()
    else:
        (tmp_path / ".lock.held").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"\.lock\.held is no lock, which is a file: remove it"):
        workdir_lock(tmp_path).__enter__()


@pytest.mark.parametrize("process", [10**30, -1, 0, 1.5, "x", None])
def test_without_flock_a_holder_that_can_be_none_is_stale_once_it_is_silent(
    tmp_path, no_flock, process
):
    place = named_lock._place() | {"process": process, "token": "t"}
    (tmp_path / ".lock.held").write_text(json.dumps(place))
    with files.held(tmp_path / ".lock", wait=True):
        pass


WITHOUT = """
import fcntl, errno
def flock(*_): raise OSError(errno.EOPNOTSUPP, "no")
fcntl.flock = flock
"""


def test_without_flock_a_second_writer_is_refused_and_a_killed_one_forgotten(tmp_path, no_flock):
    command = [sys.executable, "-c", WITHOUT + HOLDER, str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on"):
            workdir_lock(tmp_path / "new").__enter__()
        holder.send_signal(signal.SIGKILL)
    with workdir_lock(tmp_path / "new"):
        assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [".lock", ".lock.held"]
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("writes", [True, False], ids=["goes on", "is gone"])
def test_without_flock_a_holder_elsewhere_has_it_as_long_as_it_writes(tmp_path, no_flock, writes):
    held, done = tmp_path / ".lock.held", threading.Event()
    held.write_text('{"machine": "another", "process": 1, "token": "x"}')

    def write():
        for number in itertools.count():
            if done.wait(0.1):
                return
            held.write_text(f'{{"machine": "another", "process": 1, "n": {number}}}')

    other = threading.Thread(target=write)
    if writes:
        other.start()
    began = time.monotonic()
    try:
        with workdir_lock(tmp_path):
            taken = True
    except UserError:
        taken = False
    finally:
        done.set()
    assert taken != writes
    assert (time.monotonic() - began > 0.5) == taken
    if writes:
        other.join()


def test_without_flock_one_of_several_that_find_a_stale_one_has_it(tmp_path, no_flock):
    (tmp_path / "file.held").write_text('{"machine": "another", "process": 1, "token": "x"}')
    inside, most = [], []

    def take():
        with files.held(tmp_path / "file"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_it_removes_what_it_made_unless_something_was_written(tmp_path):
    with workdir_lock(tmp_path / "new" / "run"):
        pass
    assert not (tmp_path / "new").exists()
    with workdir_lock(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "log.txt").write_text("")
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["log.txt"]


def test_a_lock_is_free_again_after_its_context(tmp_path):
    for _ in range(2):
        refused = pytest.raises(UserError, match=f"process {os.getpid()} ")
        with workdir_lock(tmp_path), refused, workdir_lock(tmp_path):
            pass
