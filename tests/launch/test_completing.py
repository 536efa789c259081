"""What a shell is offered, as argcomplete asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_ode.tasks import registry as tasks
from experiments import registry

ROOT = Path(__file__).resolve().parents[2]


def offered(tmp_path, line: str, program: str = "run") -> list[str]:
    """What stands below `python launch/PROGRAM.py LINE` after TAB."""
    typed, answer = f"python launch/{program}.py {line}", tmp_path / "answer"
    asked = {
        "_ARGCOMPLETE": "2",  # the program's name is the second word
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
    }
    command = [sys.executable, f"launch/{program}.py"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **asked}, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    return [word.strip() for word in answer.read_text().splitlines()]


# Other tests register experiments of their own.
REGISTERED = [
    entry.name
    for entry in registry.entries()
    if entry.function.__module__.startswith("experiments.")
]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--exp=digits_vp_u", ["digits_vp_undamped"]),
        ("--exp ", REGISTERED),
        ("--task=", [entry.name for entry in tasks.TASKS]),
        ("--exp=digits_vp --task=dec", ["decompress"]),
        ("--desc", ["--describe"]),
        ("--exp=digits_vp --describe=", ["full"]),
        ("--exp=no_such_experiment --set train.", []),
        (
            "--exp=digits_vp --set train.optimizer.learning_rate.",
            [f"train.optimizer.learning_rate.{name}=" for name in ("peak", "warmup_steps", "end")],
        ),
        (
            "--exp=digits_vp --set=model.path=straight_path() --set=train.optimizer.b",
            ["train.optimizer.b1=", "train.optimizer.b2="],
        ),
    ],
)
def test_a_shell_is_offered_what_may_follow(tmp_path, line, expected):
    assert offered(tmp_path, line) == expected


@pytest.mark.parametrize(
    ("program", "line", "expected"),
    [
        ("sweep", "--exp=digits_sp,digits_vp_u", ["digits_sp,digits_vp_undamped"]),
        (
            "sweep",
            "--exp=digits_vp,digits_sp --grid train.seed=0,1 --grid train.optimizer.b",
            ["train.optimizer.b1=", "train.optimizer.b2="],
        ),
        ("report", "runs/a --format=mark", ["markdown"]),
    ],
)
def test_so_it_is_behind_the_other_programs(tmp_path, program, line, expected):
    assert offered(tmp_path, line, program) == expected


@pytest.mark.parametrize("program", ["run", "sweep", "report"])
def test_the_programs_say_that_they_answer_shells(program):
    assert b"PYTHON_ARGCOMPLETE_OK" in (ROOT / f"launch/{program}.py").read_bytes()[:1024]
