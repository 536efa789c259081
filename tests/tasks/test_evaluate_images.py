"""Which images are evaluated, and by what: every choice has a folder of its own."""

import dataclasses
import json
import re

import numpy as np
import pytest

from data.pipeline import Data
from data.sources.array_file import ArrayFile
from data.sources.digits import Digits
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.per_example import read_table
from diffusion_ode.tasks.compare import Compare
from launch.run import main
from tests.tasks.conftest import experiment, run_in

COMMON = {"num_images": 6, "error_images": 0}


def evaluate(workdir, **changed):
    """The folder and the result."""
    made = experiment(**{**COMMON, **changed})
    path = made.evaluate.run(run_in(workdir, made)).written[0][1]
    return path.parent, json.loads(path.read_text())


@pytest.fixture(scope="module")
def home(trained_workdir, tmp_path_factory):
    """A workdir of this module's own, without the other modules' evaluations."""
    folder = tmp_path_factory.mktemp("judged")
    (folder / "checkpoints").symlink_to(trained_workdir / "checkpoints")
    return folder


@pytest.fixture(scope="module")
def judged(home):
    """Test images by both, by the bound and by the ODE, and training images."""
    ways = {"both": {}, "bound": {"ode": None}, "ode": {"bound": None}, "train": {"split": "train"}}
    return {name: evaluate(home, **way) for name, way in ways.items()}


def test_folder_says_what_differs_from_the_default(judged):
    assert {name: folder.name for name, (folder, _) in judged.items()} == {
        "both": "2-truncated_normal-k1-first6",
        "bound": "2-bound-first6",
        "ode": "2-truncated_normal-k1-ode-first6",
        "train": "2-truncated_normal-k1-train-first6",
    }


def test_either_pass_alone_finds_what_it_finds_beside_the_other(judged):
    both = read_table(judged["both"][0] / "per_example.csv")
    found = {name: read_table(judged[name][0] / "per_example.csv") for name in ("ode", "bound")}
    assert found["ode"].keys() | found["bound"].keys() == both.keys()
    for table in found.values():
        for name, column in table.items():
            np.testing.assert_array_equal(column, both[name])
    assert judged["bound"][1]["ode"] is None
    assert judged["bound"][1]["bound"] == judged["both"][1]["bound"]
    assert judged["ode"][1]["bound"] is None
    assert judged["ode"][1]["ode"] == judged["both"][1]["ode"]


def test_training_images_are_others(judged):
    bpd = {name: judged[name][1]["bound"]["bpd"] for name in ("both", "train")}
    assert bpd["both"] != bpd["train"]
    assert judged["train"][1]["data"]["split"] == "train"


def test_table_of_one_pass_has_no_row_of_the_other(workdir):
    made = experiment(**COMMON, ode=None)
    rows = [what for what, _ in made.evaluate.run(run_in(workdir, made)).rows]
    assert rows == ["data", "variational bound (SDE)", "  of it", "speed"]


@pytest.mark.parametrize("kept", [3, 9])
def test_evaluation_goes_on_in_the_midst_of_either_pass(judged, workdir, kept):
    """Three images had their bound, or all six had it and three were solved."""
    whole = judged["both"][0]
    cells = [line.split(",") for line in (whole / "per_example.csv").read_text().splitlines()]
    lines = [",".join([row[0], "", "", "", *row[4:]]) for row in cells[1:]]
    lines += [",".join([*row[:4], "", "", ""]) for row in cells[1:]]
    folder = workdir / "evaluations" / whole.name
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text((whole / "settings.json").read_text())
    text = "\n".join([",".join(cells[0]), *lines[:kept], lines[kept][:3]])
    (folder / "per_example.csv").write_text(text)
    evaluate(workdir)
    again = (folder / "per_example.csv").read_text()
    assert again == (whole / "per_example.csv").read_text()


def test_gap_between_training_and_test_images_has_the_error_of_two_means(judged, home):
    compare = Compare("truncated_normal-k1-first6", "truncated_normal-k1-train-first6")
    done = compare.run(run_in(home, experiment()))
    gap = json.loads(done.written[0][1].read_text())
    test, train = (judged[name][1]["ode"] for name in ("both", "train"))
    assert gap["difference"] == pytest.approx(test["bpd"] - train["bpd"])
    errors = [each["standard_error"] for each in (test, train)]
    assert gap["standard_error"] == pytest.approx(np.hypot(*errors))
    low, high = gap["confidence_interval_95"]
    assert high - low > 2 * 2.2 * gap["standard_error"]  # Student's t of at most ten degrees
    splits = [gap[side]["data"]["split"] for side in ("this", "other")]
    assert (gap["paired"], splits) == (False, ["test", "train"])
    assert [what for what, _ in done.rows][::2][:2] == ["test images", "training images"]


def test_evaluation_beside_the_one_named_is_found(judged, home):
    done = Compare(other="bound-first6").run(run_in(home, experiment()))
    assert json.loads(done.written[0][1].read_text())["figure"] == "bound"
    with pytest.raises(UserError, match="has the bound alone, the other the ODE alone"):
        Compare("bound-first6", "truncated_normal-k1-ode-first6").run(run_in(home, experiment()))


def test_validation_images_are_those_held_out(workdir, tmp_path):
    made = experiment(**COMMON, split="validation")
    with pytest.raises(UserError, match=r"digits has no validation images: .*data\.held_out"):
        made.evaluate.run(run_in(workdir, made))
    held_out = dataclasses.replace(made, data=Data(Digits(), held_out=100))
    with pytest.raises(UserError, match=r"trained on 100 of the validation images"):
        held_out.evaluate.run(run_in(workdir, held_out))
    own = run_in(tmp_path / "own", held_out)
    held_out.train.run(own)
    path = held_out.evaluate.run(own).written[0][1]
    assert path.parent.name == "2-truncated_normal-k1-validation-first6"
    assert json.loads(path.read_text())["data"]["split_images"] == 100
    # The sixth of 99 images would be another one.
    fewer = dataclasses.replace(made, data=Data(Digits(), held_out=99))
    with pytest.raises(UserError, match=r"100 validation images' → .*99 validation images"):
        fewer.evaluate.run(run_in(own.workdir, fewer))


def test_images_of_another_source_are_judged_by_the_same_model(home, tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (8, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "no ise.npz", train=images[:4], test=images[4:])
    source = ArrayFile(str(tmp_path / "no ise.npz"), levels=17)
    folder, result = evaluate(home, data=source, ode=None, num_images=None)
    assert folder.name == "2-bound-no_ise"
    assert (result["data"]["name"], result["data"]["num_images"]) == ("no ise", 4)
    assert result["data"]["fingerprint"] == source.load().fingerprint
    own, _ = evaluate(home, ode=None)
    done = Compare(folder.name, own.name).run(run_in(home, experiment()))
    assert {"images of no ise", "images of digits"} <= {what for what, _ in done.rows}


def test_evaluation_of_another_size_replaces_none_of_the_same_name(workdir):
    evaluate(workdir, ode=None, name="mine", num_images=4)
    with pytest.raises(UserError, match="mine holds the result of 4 images, which one of 6 would"):
        evaluate(workdir, ode=None, name="mine")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["evaluate.split=valid"],
            "evaluate.split cannot be 'valid'",
        ),
        (["evaluate.ode=None", "evaluate.bound=None"], "both None, which leaves nothing"),
        (["evaluate.data=photos()"], r"photos has images of shape \(32, 32, 3\) with 256 levels"),
        (["evaluate.data=7"], "evaluate.data cannot be '7'; it takes a Source"),
        (["evaluate.num_images=0"], "evaluate.num_images"),
    ],
)
def test_wrong_requests_meet_one_sentence_and_status_2(settings, said, tmp_path, capsys):
    flags = (f"--set={setting}" for setting in settings)
    workdir = tmp_path / "new"
    assert main(["--exp=digits_vp", "--task=evaluate", f"--workdir={workdir}", *flags]) == 2
    sentence = capsys.readouterr().err
    assert len(sentence.splitlines()) == 1
    assert re.search(said, sentence), sentence
    assert not workdir.exists()
