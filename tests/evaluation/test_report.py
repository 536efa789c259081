"""A table of runs: replicates in one row, nothing ranked that cannot be, differences paired."""

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.replicates import apart, braced, replicates
from diffusion_ode.evaluation.report import table
from diffusion_ode.evaluation.reported_run import read_runs, workdirs
from diffusion_ode.reporting.tables import terminal
from tests.finished_run import config, finished_run

VP, SP = [[2.0, 2.5, 3.5], [2.1, 2.7, 3.6]], [[2.2, 2.8, 3.6], [2.2, 2.9, 3.9]]


@pytest.fixture
def runs(tmp_path):
    """Two models of two seeds each."""
    for path, several in (("VariancePreserving", VP), ("StraightPath", SP)):
        for seed, bits in enumerate(several):
            document = config(seed=seed, path=path)
            finished_run(tmp_path / f"{path}-{seed}", bits, document=document)
    return tmp_path


def columns(folder, *more, evaluation=None, **options):
    rows = replicates(read_runs(workdirs([folder, *more]), evaluation))
    return {column.name: column for column in table(rows, **options).columns}


def test_seeds_of_one_config_are_a_row_with_the_errors_over_images_and_over_seeds(runs):
    found = columns(runs)
    assert found["run"].cells == ["VariancePreserving-{0,1}", "StraightPath-{0,1}"]
    assert found["model.path"].cells == ["VariancePreserving", "StraightPath"]
    first = found["ode"].cells[0]
    means, by_image = np.mean(VP, axis=1), np.mean(VP, axis=0)
    assert first.value == pytest.approx(np.mean(VP))
    assert first.error == pytest.approx(np.std(by_image, ddof=1) / np.sqrt(3))
    assert first.over_seeds == pytest.approx(np.std(means, ddof=1) / np.sqrt(2))
    assert found["seconds"].exact == ["90.0", "90.0"]
    assert found["nfe"].cells == ["20", "20"]
    assert found["data_fingerprint"].exact == ["f1", "f1"]


def test_difference_to_a_baseline_is_paired_by_image_and_by_seed(runs):
    found = columns(runs, baseline=runs / "VariancePreserving-1")
    none, difference = found["difference"].cells
    assert none is None
    each = np.asarray(SP) - np.asarray(VP)
    by_image = np.mean(each, axis=0)
    assert difference.value == pytest.approx(np.mean(each))
    assert difference.error == pytest.approx(np.std(by_image, ddof=1) / np.sqrt(3))
    assert difference.over_seeds == pytest.approx(np.std(np.mean(each, 1), ddof=1) / np.sqrt(2))


def test_other_settings_of_the_same_seed_are_rows_and_those_that_change_no_figure_no_column(
    tmp_path,
):
    for peak in (1e-3, 2e-3):
        finished_run(tmp_path / f"{peak}", [2.0, 3.0 + peak], document=config(peak=peak))
    finished_run(tmp_path / "again", [2.0, 3.5])  # the same config and seed as 0.001
    found = columns(tmp_path)
    assert found["run"].cells == ["0.001", "0.002", "again"]
    assert found["train.optimizer.learning_rate.peak"].cells == ["0.001", "0.002", "0.001"]
    assert found["train.optimizer.learning_rate.peak"].heading == "learning_rate.peak"
    assert not any("log_every" in name for name in found)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"data": {"fingerprint": "f2"}}, r"test images of digits \(f1\) and .*\(f2\): such"),
        ({"data": {"split": "train"}}, "test images of .* train images of .* never ranked"),
        ({"data": {"num_images": 2}}, "judged 3 images and .* 2: such figures are never ranked"),
        ({"ode": {"num_importance": 20}}, "K = 1 and .* K = 20"),
    ],
)
def test_figures_of_other_images_or_another_kind_are_not_ranked_but_may_stand_apart(
    runs, tmp_path, other, said
):
    finished_run(runs / "other", [1.0, 1.0, 1.0], document=config(peak=9.0), **other)
    rows = replicates(read_runs(workdirs([runs])))
    with pytest.raises(UserError, match=said):
        table(rows)
    assert [len(group) for group in apart(rows)] == [2, 1]


def test_evaluations_that_a_pattern_names_are_all_reported(tmp_path):
    run = finished_run(tmp_path / "run", [2.0, 3.0])
    finished_run(run, [1.0, 2.0], name="7-uniform-k1-train", data={"split": "train"})
    assert len(read_runs([run], "*")) == 2
    assert len(read_runs([run], "7-*-train")) == 1
    with pytest.raises(UserError, match=r"named bound; there are uniform-k1.*"):
        read_runs([run], "bound")


def test_run_without_an_evaluation_has_a_row_and_is_named(tmp_path):
    finished_run(tmp_path / "a", [2.0, 3.0])
    finished_run(tmp_path / "b", None, document=config(peak=1.0))
    rows = replicates(read_runs(workdirs([tmp_path])))
    found = table(rows)
    assert found.columns[0].cells == ["a", "b"]
    assert any(note == f"not evaluated: {tmp_path / 'b'}" for note in found.notes)
    with pytest.raises(UserError, match="b is none of the evaluated runs"):
        table(rows, baseline=tmp_path / "b")


@pytest.mark.filterwarnings("error")
def test_run_of_which_no_image_converged_has_no_figure_and_takes_none_from_the_others(tmp_path):
    nan, lost = float("nan"), {"code_length": False, "no_code_length_because": "lost"}
    judged = {"a": [nan] * 3, "b": [2.0, 2.5, 3.0], "c": [1.0, nan, nan], "d": [2.0, 2.4, 2.8]}
    for number, (name, bits) in enumerate(judged.items()):
        ode = lost if nan in bits else None
        finished_run(tmp_path / name, bits, document=config(peak=float(number)), ode=ode)
    rows = replicates(read_runs(workdirs([tmp_path])))
    found = table(rows, baseline=tmp_path / "b")
    by_name = {column.name: column for column in found.columns}
    assert by_name["run"].cells == ["d", "b", "c", "a"]
    assert by_name["ode"].cells[-1] == "–"
    assert by_name["ode"].exact[-1] is None
    first, *others = by_name["difference"].cells
    assert first.value == pytest.approx(-0.1)
    assert others == [None] * 3
    assert sum(note.startswith("no difference for") for note in found.notes) == 2
    assert not any("nan" in line for line in terminal(found).splitlines())
    everything = table(rows, baseline=tmp_path / "a")  # from which nothing differs by a number
    assert {column.name: column for column in everything.columns}["difference"].cells == [None] * 4


def test_folders_that_are_no_runs_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        workdirs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"is neither a workdir nor a folder of some"):
        workdirs([tmp_path])


def test_names_are_joined_as_a_shell_takes_them():
    assert braced(["vp-0", "vp-1"]) == "vp-{0,1}"
    assert braced(["seed=10,x", "seed=11,x", "seed=2,x"]) == "seed={10,11,2},x"
    assert braced(["one"]) == "one"
