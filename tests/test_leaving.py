"""A Ctrl-C in a program's first moments is a sentence, as it is later."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_ode.leaving import status_of

PROGRAMS = (
    *("diffusion_ode.tools.export", "diffusion_ode.tools.import_reference"),
    *("diffusion_ode.tools.mirror", "data.prepare"),
    *("launch/report.py", "launch/run.py", "launch/sweep.py"),
)
RUN = """
del sys.argv[0]
program = sys.argv[0]
if program.endswith(".py"):
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""
INTERRUPTED_IMPORT = (
    """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "argparse":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
sys.meta_path.insert(0, Interrupting())
"""
    + RUN
)
INTERRUPTED_END = (
    """
import atexit, os, runpy, signal, sys

@atexit.register
def interrupt():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)

signal.signal(signal.SIGINT, signal.default_int_handler)
"""
    + RUN
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_interruption_of_an_import_is_a_sentence_and_the_end(program):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, program],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr == "Interrupted; run the same command to go on.\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_wrong_flags_and_a_screen_of_few_letters_are_one_short_sentence_and_status_2(program):
    command = [program] if program.endswith(".py") else ["-m", program]
    done = subprocess.run(
        [sys.executable, *command, "é", "b", f"--path=é{'q' * 5000}"],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and len(done.stderr) < 700
    assert not done.stderr.startswith("usage")


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", "2>/dev/full", "2>&-"])
def test_a_screen_that_cannot_be_written_to_takes_nothing_from_what_is_done(redirected, tmp_path):
    (tmp_path / "rún").mkdir()
    (tmp_path / "rún/config.json").write_text("{}")
    (tmp_path / "thére").mkdir()
    tool = f"{sys.executable} -m diffusion_ode.tools.mirror"
    there = shlex.quote(f"file://{tmp_path}/thére")
    done = subprocess.run(
        f"{tool} {shlex.quote(str(tmp_path / 'rún'))} {there} {redirected}",
        shell=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "thére/config.json").read_text() == "{}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_interruption_of_an_end_changes_nothing(program):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_END, program, "--help"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_interruption_of_a_program_that_has_begun_is_a_sentence_too(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert status_of(interrupted) == 75
    assert capsys.readouterr().err == "Interrupted.\n"
    assert status_of(lambda: 2) == 2


def test_what_nobody_thought_of_is_a_sentence_before_its_traceback(capsys):
    def broken():
        raise LookupError("of paper\nand ink")

    assert status_of(broken) == 1
    said = capsys.readouterr().err
    assert said.startswith("LookupError: of paper; the program should not have come to this:")
    assert "Traceback (most recent call last)" in said
