"""One writer per workdir."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_ode.errors import UserError
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
