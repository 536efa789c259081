import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments import registry
from launch.run import main

ROOT = Path(__file__).resolve().parents[2]


SUMMARY = """
tiny_sp
───────────
steps     7
steps     2
steps     3

written
  config  runs/tiny_sp/config.json
  config  runs/tiny_sp/config.json
  config  runs/tiny_sp/config.json

next, try
  python launch/run.py --exp=outside:tiny_sp --task=sample"""


@dataclass(frozen=True)
class Done:
    """What a launch showed and returned."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def launch(outside, monkeypatch, capsys):
    """Runs the program in this process, standing in the folder that holds `outside.py`."""
    monkeypatch.chdir(outside)
    monkeypatch.syspath_prepend(outside)
    registry.entries()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.delitem(sys.modules, "outside", raising=False)

    def run(*arguments):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code or 0
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def refusal(launch):
    """The one sentence of a refused request."""

    def run(*arguments):
        done = launch(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    return run


def test_list_answers_within_two_seconds_without_jax(tmp_path):
    program = f"""
import sys
sys.argv = ["run.py", "--list"]
import runpy
try:
    runpy.run_path({str(ROOT / "launch/run.py")!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
slow = {{"jax", "flax", "grain", "orbax", "sklearn"}} & set(sys.modules)
assert not slow, slow
"""
    # Seconds of the processor: the clock on the wall depends on who else is running.
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 2
    assert "digits_vp" in done.stdout
    assert "evaluate" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_wrong_flags_import_no_jax(tmp_path):
    program = """
import sys
from launch.run import main
assert main(["--exp=digits_vp", "--lst"]) == 2
assert main(["--exp=digit_vp"]) == 2
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_fits_a_screen_and_shows_examples(launch):
    done = launch("--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "examples:" in lines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--exp=NAME"),
        (("--exp",), "expected one argument"),
        (("--exp=digit_vp",), "did you mean digits_vp"),
        (("--exp=digits_vp", "--task=evalute"), "did you mean evaluate"),
        (("--exp=digits_vp", "--work-dir=x"), "did you mean --workdir"),
        (("--exp=digits_vp", "--xyzzy=3"), "--help"),
        (("--exp=digits_vp", "--train.num_steps=3"), "--set train.num_steps=3"),
        (("--ex=digits_vp",), "did you mean --exp"),
        (("digits_vp",), "--exp=digits_vp"),
        (("--exp=digits_vp", "--set", "a=1", "b=(2, 3)"), "of its own: --set 'b=(2, 3)'."),
        (("--exp=digits_vp", "--set", "a", "=", "1"), "write --set PATH=VALUE without spaces"),
        (("--exp=digits_vp", "--set", "a=", "1"), "write --set PATH=VALUE without spaces"),
        (("--exp=digits_vp", "sample"), "a task is chosen by --task=sample."),
        (("exp=digits_vp",), "did you mean --exp=digits_vp?"),
        (("--exp=digits_vp", "--checkpoint=bst"), "neither a step nor best"),
        (("--exp=digits_vp", f"--checkpoint={'9' * 5000}"), "neither a step nor best"),
        (("--exp=digits_vp", f"--init_from=runs@{'9' * 5000}"), "does not end in a step"),
        (("--exp=digits_vp", f"--workdir={'a' * 300}"), "is no path of this machine"),
        (("--exp=digits_vp", "--workdir="), "an empty path: name a folder"),
        (("--exp=digits_vp", "--set=train.writers={[]:1}"), "it takes a tuple of MetricWriter"),
        (
            ("--exp=digits_vp", f"--coordinator=a:{'9' * 5000}", "--num_processes=2"),
            "without all of --coordinator",
        ),
        (("--list=no_such_thing",), "No experiment matches 'no_such_thing'"),
        (("--exp=nowhere:thing",), "no module 'nowhere'"),
        ((f"--exp={'a.' * 2000}b:c",), "no module 'a.a.a"),
        (("--exp=digits_vp", f"--task={'a.' * 2000}b:c"), "no module 'a.a.a"),
        (("--exp=digits_vp", f"--set=data.source={'a.' * 2000}b:c(d=1)"), "it takes a Source"),
        (("--exp=digits_vp", f"--set=data.source={'a.' * 90}b:c(d=1)"), "no module 'a.a.a"),
        (("--exp=digits_vp", "--describe=all"), "neither --describe nor --describe=full"),
    ],
)
def test_wrong_request_is_one_sentence_and_status_2(refusal, arguments, says):
    assert says in refusal(*arguments)


def test_wrong_settings_are_refused_before_anything_is_written(refusal, outside):
    said = refusal("--exp=outside:tiny", "--set", "train.num_step=5")
    assert "did you mean train.num_steps" in said
    said = refusal("--exp=outside:tiny", "--set=model.schedule.gamma_0=9")
    assert said.startswith("gamma_0 = 9.0 is not below")
    said = refusal("--exp=outside:tiny", "--set=model.pixels.levels=256")
    pixels = "model.pixels=pixels(shape=(8, 8, 1), levels=17)"
    assert f"give --set '{pixels}'" in said
    said = refusal("--exp=outside:tiny", f"--set={pixels}", "--set=after_training=('smple',)")
    assert "did you mean sample" in said
    said = refusal("--exp=outside:tiny", "--set=after_training=('smple',)")
    assert "did you mean sample" in said
    assert not (outside / "runs").exists()


def test_training_is_followed_by_its_tasks_and_leaves_its_traces(launch, outside):
    done = launch("--exp=outside:tiny_sp", "--init_from=runs/tiny", "--set", "train.num_steps=7")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "ran 7 from runs/tiny at None",
        "ran 2 from None at None",
        "ran 3 from None at None",
    ]
    shown = "\n".join(map(str.rstrip, lines[3:])).replace(str(ROOT / "launch"), "launch")
    assert shown == SUMMARY
    workdir = outside / "runs/tiny_sp"
    config = json.loads((workdir / "config.json").read_text())
    train = config["arguments"]["train"]["arguments"]
    assert train == {"num_steps": 7, "end": "well", "loses_log": False}
    launches = json.loads((workdir / "run.json").read_text())["launches"]
    assert [entry["task"] for entry in launches] == ["train", "evaluate", "sample"]
    assert all(entry["outcome"] == "done" and entry["stopped"] for entry in launches)
    assert launches[0]["fingerprint"] == "0123"
    assert "jax" in launches[0]["versions"]


@pytest.fixture
def script(outside):
    """Runs the program as a process of its own, in the folder that holds `outside.py`."""

    def run(*arguments, stdout=subprocess.PIPE, **environment):
        return subprocess.run(
            [sys.executable, str(ROOT / "launch/run.py"), *arguments],
            cwd=outside,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )

    return run


def test_it_runs_as_a_script_from_anywhere(script):
    done = script("--exp=outside:tiny", "--task=evaluate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ran 2")


@pytest.mark.parametrize("shows", [["--list"], ["--help"], ["--exp=outside:tiny", "--describe"]])
def test_what_cannot_be_shown_is_a_failure_said_in_one_sentence(script, shows):
    with Path("/dev/full").open("w") as full:
        done = script(*shows, stdout=full)
    said = "Standard output cannot be written to (No space left on device).\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_a_training_goes_on_without_a_screen(script, outside):
    with Path("/dev/full").open("w") as full:
        done = script("--exp=outside:tiny", stdout=full)
    assert (done.returncode, done.stderr) == (0, "")
    launches = json.loads((outside / "runs/tiny/run.json").read_text())["launches"]
    assert [entry["outcome"] for entry in launches] == ["done"] * 3


@pytest.mark.parametrize(
    "flags", [["--list"], ["--exp=outside:tiny", "--describe=full"], ["--exp=outside:tiny"]]
)
def test_a_screen_that_knows_only_ascii_is_written_to_in_it(script, flags):
    done = script(*flags, LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert len(done.stdout.splitlines()) > 10


def test_one_task_runs_alone_with_its_flags(launch, outside):
    done = launch("--exp=outside:tiny", "--task=sample", "--checkpoint=best", "--workdir=elsewhere")
    assert done.stdout.splitlines()[0] == "ran 3 from None at best"
    assert "ran 2" not in done.stdout
    assert (outside / "elsewhere/config.json").exists()


@pytest.mark.parametrize(
    ("end", "status", "says"),
    [
        ("refused late", 2, "num_steps is 1: give 2.\n"),
        (
            "failed",
            1,
            "train failed: RuntimeError: out of paper; the traceback is in runs/tiny/log.txt.\n",
        ),
        ("interrupted", 75, "interrupted by SIGTERM"),
    ],
)
def test_every_end_has_its_status_and_no_traceback(launch, outside, end, status, says):
    done = launch("--exp=outside:tiny", f"--set=train.end={end}")
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "ran 2" not in done.stdout  # nothing follows a training that did not end
    launches = json.loads((outside / "runs/tiny/run.json").read_text())["launches"]
    assert launches[-1]["outcome"].startswith(end.split()[0])
    if end == "failed":
        assert "Traceback" in (outside / "runs/tiny/log.txt").read_text()


@pytest.mark.parametrize("name", [".lock", "log.txt", "run.json", "checkpoints", "samples"])
def test_a_workdir_where_something_else_has_a_name_of_ours_is_refused(refusal, outside, name):
    place = outside / "runs/tiny" / name
    place.parent.mkdir(parents=True)
    makers = (os.mkfifo, Path.mkdir) if "." in name else (os.mkfifo, Path.touch)
    for make in makers:
        make(place)
        assert f"runs/tiny/{name} is no " in refusal("--exp=outside:tiny")
        place.rmdir() if place.is_dir() else place.unlink()


@pytest.mark.parametrize(("end", "lines"), [("failed", 4), ("full", 1), ("disk", 1)])
def test_a_failure_is_a_sentence_first_where_the_log_cannot_be_written(launch, end, lines):
    done = launch("--exp=outside:tiny", f"--set=train.end={end}", "--set=train.loses_log=True")
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first.startswith("train failed: ")
    assert ("log.txt cannot be written (No such file or directory)." in first) == bool(rest)
    assert len(rest) >= lines - 1
    assert end == "failed" or not rest
    assert ("free space or mend the disk" in first) == (end == "disk")


def test_what_libraries_log_is_not_on_the_screen(script):
    done = script("--exp=outside:tiny", "--set=train.end=noisy")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("task", ["train", "evaluate", "sample", "compare"])
def test_a_launch_without_its_data_writes_nothing(refusal, outside, task):
    refusal("--exp=cifar10_vp", f"--task={task}", "--data_dir=empty", "--workdir=new/folder")
    assert not (outside / "new").exists()


def test_a_refused_launch_leaves_a_workdir_as_it_was(launch, refusal, outside):
    assert launch("--exp=outside:tiny", "--set=after_training=()").returncode == 0
    before = {path: path.read_bytes() for path in (outside / "runs").rglob("*") if path.is_file()}
    assert refusal("--exp=outside:tiny", "--set=train.end=refused") == "num_steps is 1: give 2.\n"
    after = {path: path.read_bytes() for path in (outside / "runs").rglob("*") if path.is_file()}
    assert after == before


def test_a_workdir_that_is_a_file_is_refused(refusal, outside):
    (outside / "file").write_text("")
    assert refusal("--exp=outside:tiny", "--workdir=file/deeper") == (
        f"{outside / 'file'} is a file, not a folder: choose another --workdir.\n"
    )


def test_describe_shows_everything_and_writes_nothing(launch, outside):
    done = launch(*("--exp=outside:tiny_sp", "--describe=full", "--set=model.schedule.gamma_1=4"))
    assert done.returncode == 0, done.stderr
    for line in (
        "  The straight path is no slower.",
        "  model.path = StraightPath()",
        "  model.schedule = LinearSchedule(gamma_0=-7.876, gamma_1=4.0)",
        "  model.path: VariancePreserving() → StraightPath()",
        "  model.schedule.gamma_1: 5.0 → 4.0",
    ):
        assert line in done.stdout.splitlines()
    assert "parameters: " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert sorted(path.name for path in outside.iterdir() if path.suffix != "") == ["outside.py"]
    assert not (outside / "runs").exists()


def test_describe_begins_with_what_matters_and_leaves_the_config_to_full(launch):
    short, full = (
        launch("--exp=outside:tiny_sp", flag) for flag in ("--describe", "--describe=full")
    )
    *same, last = short.stdout.splitlines()
    assert full.stdout.splitlines()[: len(same)] == same
    assert last.endswith("--describe=full")
    places = [short.stdout.index(words) for words in ("no slower", "its parent", "parameters: ")]
    assert places == sorted(places)
    assert "model.pixels" not in short.stdout


def test_describe_tells_what_fields_take(launch):
    lines = launch("--exp=outside:tiny", "--describe=full").stdout.splitlines()
    assert "  model.network.blocks = 1  # an int in [1, 256]" in lines
    place = lines.index("  model.schedule = LinearSchedule(gamma_0=-7.876, gamma_1=5.0)")
    assert lines[place + 1] == "  #   gamma_0 and gamma_1: a float in [-80, 80]"


def test_lines_of_describe_can_be_set(launch):
    done = launch("--exp=outside:tiny", "--describe=full")
    settings = [
        f"--set={line.strip().replace(' = ', '=', 1)}"
        for line in done.stdout.splitlines()
        if line.startswith("  model.")
    ]
    assert len(settings) >= 5
    again = launch("--exp=outside:tiny", "--describe", *settings)
    assert again.returncode == 0, again.stderr
    assert "set on the command line: nothing" in again.stdout


def test_a_task_refuses_a_model_that_was_not_trained(launch, refusal):
    assert launch("--exp=outside:tiny", "--set=after_training=()").returncode == 0
    said = refusal("--exp=outside:tiny", "--task=evaluate", "--set=model.path=straight_path()")
    assert "model.path was VariancePreserving(), now StraightPath()" in said
    assert launch("--exp=outside:tiny", "--task=evaluate").returncode == 0


def test_interruption_before_any_task_leaves_at_once(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.run.launch_experiment", interrupt)
    assert main(["--exp=digits_vp"]) == 75
    assert capsys.readouterr().err == "Interrupted; run the same command to go on.\n"
