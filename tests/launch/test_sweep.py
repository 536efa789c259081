"""A sweep from the command line: ordinary workdirs, of which only the missing are run."""

import json

import pytest

from launch.sweep import main


@pytest.fixture
def sweep(outside, monkeypatch, capsys):
    monkeypatch.syspath_prepend(outside)
    monkeypatch.setenv("PYTHONPATH", str(outside))

    def launch(*flags):
        status = main(["--exp=outside:tiny", f"--workdir={outside / 'runs'}", *flags])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return launch


def test_failed_point_says_why_the_others_go_on_and_only_it_is_run_again(sweep, outside):
    asked = ("--grid=train.end=well,failed", "--set=after_training=('evaluate',)", "--jobs=2")
    status, out, err = sweep(*asked)
    assert status == 1
    assert "2 points in" in out
    assert "end='failed'" not in out
    assert "end=failed  status 1: train failed: RuntimeError: out of paper; the trace" in out
    assert "1 failed, as the line above says: mend it," in err
    well = outside / "runs" / "end=well"
    launches = json.loads((well / "run.json").read_text())["launches"]
    assert [launch["task"] for launch in launches] == ["train", "evaluate"]
    assert "1 point in" in sweep("--grid=train.end=well", "--show")[1]
    status, out, _ = sweep(*asked, "--show")
    assert status == 0
    assert "1 done, 1 to do" in out
    assert "  to do  end=failed" in out
    # Done is what was done under these very settings.
    assert "0 done, 2 to do" in sweep(*asked, "--set=train.num_steps=7", "--show")[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "nothing to sweep: add --grid PATH=A,B, or run it by `python launch/run.py --exp="),
        (["--grid=train.end=well", "--workdir=gs://b/x"], "diffusion_ode.tools.mirror DIR URL"),
        (["--grid=train.nd=well"], "There is no field 'train.nd'; did you mean train.end"),
        (["--grid=train.end=well", "--jobs=0"], "'0' is no whole number in [1, 10000]"),
        (["--grid=train.end=well", "--jobs=-3", "--slurm=a=b"], "'-3' is no whole number"),
        (["--grid=train.end=well", "--jobs=257"], "is too many: give at most 256"),
        (["--grid=train.end=well", f"--workdir={'a' * 300}"], "is no path of this machine"),
        (["--grid=train.end=well", f"--workdir={__file__}"], "is a file, not a folder"),
        (["--grid=train.end=well", "--slurm=gpu"], "'gpu' is not NAME=VALUE"),
        (["--grid=train.end=well", "--gird=1"], "There is no flag --gird; did you mean --grid?"),
        (["--grid=train.end=well", "a=1,2"], "has a --grid of its own: --grid a=1,2."),
        (["--grid", "train.seed=0", "1", "2"], "separated by commas: --grid=train.seed=0,1,2."),
    ],
)
def test_wrong_request_meets_one_sentence_and_makes_nothing(sweep, outside, flags, said):
    before = sorted(outside.iterdir())
    status, _, err = sweep(*flags)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert sorted(outside.iterdir()) == before


def test_a_log_that_cannot_be_written_ends_the_sweep_with_a_sentence(sweep, outside):
    (outside / "runs/logs/end=well.txt").mkdir(parents=True)
    status, _, err = sweep("--grid=train.end=well,failed")
    assert status == 2
    assert "end=well cannot begin, as its log" in err and err.count("\n") == 1


def test_what_a_point_says_is_not_written_through_a_link(sweep, outside, tmp_path):
    log = outside / "runs/logs/end=well.txt"
    log.parent.mkdir(parents=True)
    log.symlink_to(tmp_path / "elsewhere")
    status, _, err = sweep("--grid=train.end=well")
    assert (status, err) == (2, f"{log} is a link, which is not followed: remove it.\n")
    assert not (tmp_path / "elsewhere").exists()
