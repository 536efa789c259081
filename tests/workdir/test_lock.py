"""One writer per workdir."""

import errno
import itertools
import json
import os
import shutil
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


def test_without_flock_it_is_said_that_a_silent_holder_is_waited_for(tmp_path, no_flock, capsys):
    (tmp_path / ".lock.held").write_text('{"machine": "another", "process": 1, "token": "x"}')
    with workdir_lock(tmp_path):
        pass
    said = capsys.readouterr().err
    assert f"{tmp_path}/.lock.held has not been written since: waiting" in said
    assert said.count("\n") == 1


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


def removed(folder):
    shutil.rmtree(folder)


def made_anew(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def without_lock(folder):
    (folder / ".lock").unlink()


def with_anothers_lock(folder):
    without_lock(folder)
    (folder / ".lock").write_text("{}")


def overwritten(folder):
    (folder / ".lock").write_text("{}")


def replaced_by_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


def without_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    "change",
    [
        *(removed, made_anew, without_lock, with_anothers_lock, overwritten, replaced_by_a_file),
        without_config,
    ],
    ids=lambda change: change.__name__,
)
def test_a_folder_that_is_no_longer_ours_is_noticed_and_left_alone(tmp_path, change):
    folder = tmp_path / "run"
    with workdir_lock(folder) as lock:
        (folder / "config.json").write_text("")
        lock.check("config.json")
        change(folder)
        with pytest.raises(UserError, match="run has been removed, emptied, put elsewhere"):
            lock.check("config.json")
    left = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob(".lock")}
    assert left == (
        {Path("run/.lock"): "{}"} if change in (with_anothers_lock, overwritten) else {}
    )


def test_another_name_of_the_lock_s_file_keeps_its_content(tmp_path):
    (tmp_path / "precious").write_text("much work" * 100)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").hardlink_to(tmp_path / "precious")
    with workdir_lock(tmp_path / "run") as lock:
        assert lock.is_ours()
    assert (tmp_path / "precious").read_text() == "much work" * 100


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_lock(tmp_path, make):
    make(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"\.lock is in the way \(it is no file\)"):
        workdir_lock(tmp_path).__enter__()


@pytest.mark.parametrize("flock", [True, False])
def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch, request, flock):
    if not flock:
        request.getfixturevalue("no_flock")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite" if flock else "fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        workdir_lock(tmp_path / "run").__enter__()
    assert not list((tmp_path / "run").glob(".lock.held"))
    assert not flock or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("swapped", ["link", "another's", "garbage"])
def test_without_flock_a_lock_that_was_lost_is_not_written_to(tmp_path, no_flock, swapped):
    named, precious = tmp_path / "run/.lock.held", tmp_path / "precious"
    precious.write_text(json.dumps({"token": "another's"}) if swapped != "garbage" else "\xff")
    with workdir_lock(tmp_path / "run"):
        named.unlink()
        if swapped == "link":
            named.symlink_to(precious)
        else:
            named.write_bytes(precious.read_bytes())
        before = precious.read_bytes()
        time.sleep(5 * named_lock.REFRESHED_EVERY)
        assert precious.read_bytes() == named.read_bytes() == before
    assert named.is_symlink() == (swapped == "link") and named.read_bytes() == before
