"""Comparing two evaluations: only of one kind, on the same images, and saying on which."""

import dataclasses
import json
import os

import numpy as np
import pytest
from scipy import stats

from diffusion_ode.configs.construction import document_of
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.per_example import PerExampleTable
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.heun import Heun
from diffusion_ode.tasks.compare import Compare
from tests.tasks.conftest import experiment, run_in

DIMENSIONS = 64


def evaluated(workdir, bits, failed=(), quirks=(), config=None, name="7-uniform-k1", **ode):
    """A folder as an evaluation leaves it; `bits` by image, of which `failed` did not converge."""
    folder = workdir / "evaluations" / name
    with PerExampleTable(("log_likelihood", "converged"), folder / "per_example.csv") as table:
        for index, value in bits.items():
            nats = -value * DIMENSIONS * np.log(2.0)
            table.append(index, log_likelihood=nats, converged=index not in failed)
    result = {
        "data": {"name": "d", "fingerprint": "f", "split": "test", "shape": [8, 8, 1]},
        "ode": {"bpd": 99.0, "dequantization": "uniform", "num_importance": 1, **ode},
        "quirks": list(quirks),
        "config": config,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return workdir


def compared(here, there, **settings):
    outcome = Compare(**settings).run(run_in(here, experiment(), **{"with": str(there)}))
    return outcome, json.loads(outcome.written[0][1].read_text())


def test_means_are_over_the_same_images_and_the_others_are_counted_by_reason(tmp_path):
    here = evaluated(tmp_path / "a", {0: 2.0, 1: 2.5, 2: 3.5, 3: 9.0, 5: 9.0}, failed={3})
    there = evaluated(tmp_path / "b", {0: 2.5, 1: 2.5, 2: 4.5, 3: 9.0, 4: 9.0})
    outcome, result = compared(here, there)
    assert result["num_images"] == 3
    assert result["this"]["bpd"] == pytest.approx(8.0 / 3)
    assert result["other"]["bpd"] == pytest.approx(9.5 / 3)
    assert result["difference"] == pytest.approx(-0.5)
    assert result["left_out"] == {
        "evaluated here only": 1,
        "evaluated there only": 1,
        "not converged here": 1,
    }
    assert ("", "1 left out: not converged here") in outcome.rows


def test_newest_evaluations_of_one_name_are_compared_unless_others_are_chosen(tmp_path):
    here, there = tmp_path / "a", tmp_path / "b"
    for age, (folder, name, value) in enumerate(
        [
            (here, "7-uniform-k1", 1.0),
            (here, "9-uniform-k1", 2.0),
            (here, "9-tight", 3.0),  # the newest here, which the other has not
            (there, "7-uniform-k1", 4.0),
            (there, "7-loose", 5.0),
        ]
    ):
        evaluated(folder, {0: value, 1: value + 0.5}, name=name)
        result = folder / "evaluations" / name / "result.json"
        os.utime(result, (1000.0 + age, 1000.0 + age))

    def names(**settings):
        result = compared(here, there, **settings)[1]
        return result["this"]["evaluation"], result["other"]["evaluation"]

    assert names() == ("9-uniform-k1", "7-uniform-k1")
    assert names(evaluation="7-uniform-k1") == ("7-uniform-k1", "7-uniform-k1")
    assert names(evaluation="tight", other="loose") == ("9-tight", "7-loose")
    assert names(other="7-loose") == ("9-tight", "7-loose")
    with pytest.raises(UserError, match=r"b/evaluations has no .* named tight, but 7-loose, 7-un"):
        names(evaluation="tight")


def test_other_models_folder_that_is_not_there_is_called_so(tmp_path):
    here = evaluated(tmp_path / "here", {0: 2.0, 1: 3.0})
    with pytest.raises(UserError, match="/nowhere is not a folder: name the workdir of a training"):
        compared(here, tmp_path / "nowhere")


def test_names_are_looked_for_before_the_training_that_comes_first(tmp_path):
    here = evaluated(tmp_path, {0: 2.0, 1: 3.0}, name="7-tight")

    def check(*following, evaluation=None, other):
        made = experiment(name="loose", split="validation")
        held_out = dataclasses.replace(made.data, held_out=20)
        task = Compare(evaluation, other)
        made = dataclasses.replace(
            made, data=held_out, compare=task, after_training=(*following, "compare")
        )
        task.check_reading(run_in(here, made))

    check("evaluate", other="tight")
    check("evaluate", other="loose", evaluation="7-tight")
    check("evaluate", other="2-loose")
    check("diffusion_ode.tasks.sample:Sample", other="nosuch")
    for names in ({"other": "tight"}, {"other": "loose"}, {"other": "7-loose"}):
        with pytest.raises(UserError):
            check(**names)
    with pytest.raises(UserError, match=r"compare.evaluation = '8-tight' is no .* 7-tight, loose"):
        check("evaluate", other="loose", evaluation="8-tight")
    (here / "evaluations/7-tight/result.json").write_text("[]")
    with pytest.raises(UserError, match="is no result: evaluate anew"):
        check("evaluate", other="tight")


def test_interval_is_students(tmp_path):
    here = evaluated(tmp_path / "a", dict(enumerate([2.0, 2.5, 3.5])))
    there = evaluated(tmp_path / "b", dict(enumerate([2.5, 2.5, 4.5])))
    interval = compared(here, there)[1]["confidence_interval_95"]
    differences = [-0.5, 0.0, -1.0]
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(interval, expected)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"dequantization": "truncated_normal"}, "dequantisation uniform .* truncated_normal"),
        ({"num_importance": 20}, "K = 1 and .* K = 20"),
        ({"quirks": ["unit_prior"]}, "the quirks none and .* the quirks unit_prior"),
    ],
)
def test_figures_of_another_kind_are_refused_naming_both(tmp_path, other, said):
    bits = {0: 2.0, 1: 3.0}
    here, there = evaluated(tmp_path / "a", bits), evaluated(tmp_path / "b", bits, **other)
    with pytest.raises(UserError, match=f"{said}: such figures are never compared"):
        compared(here, there)
    assert not (here / "comparisons").exists()


def test_how_draws_are_combined_matters_only_if_there_are_several(tmp_path):
    bits = {0: 2.0, 1: 3.0}
    ways = {"a": "importance_weighted", "b": "averaged_draws"}
    one = [evaluated(tmp_path / name, bits, combination=way) for name, way in ways.items()]
    compared(*one)
    several = [
        evaluated(tmp_path / "k" / name, bits, combination=way, num_importance=4)
        for name, way in ways.items()
    ]
    with pytest.raises(UserError, match=r"draws importance_weighted and .* averaged_draws"):
        compared(*several)


def test_odes_that_were_solved_otherwise_are_compared_with_a_warning(tmp_path):
    def tree(ode):
        evaluate = {"call": "m:Evaluate", "arguments": {"ode": document_of(ode)}}
        return {"call": "m:Experiment", "arguments": {"evaluate": evaluate}}

    bits = {0: 2.0, 1: 3.0}
    heun = OdeLikelihood(solver=Heun(), controller=FixedSteps(40))
    solved = {"a": OdeLikelihood(), "b": OdeLikelihood(lanes=4), "c": heun}
    a, b, c = (evaluated(tmp_path / k, bits, config=tree(ode)) for k, ode in solved.items())
    assert "SOLVED OTHERWISE" not in dict(compared(a, b)[0].rows)
    assert dict(compared(a, c)[0].rows)["SOLVED OTHERWISE"].startswith("solver, controller differ")


def test_figures_that_are_no_code_lengths_are_compared_saying_so(tmp_path):
    bits, why = {0: 2.0, 1: 3.0}, {"code_length": False, "no_code_length_because": "of a reason"}
    sound, unsound = evaluated(tmp_path / "a", bits), evaluated(tmp_path / "b", bits, **why)
    outcome, result = compared(sound, unsound)
    why = f"{unsound / 'evaluations' / '7-uniform-k1'}: of a reason"
    assert ("NO CODE LENGTH", why) in outcome.rows
    assert result["code_lengths"] is False
    assert compared(sound, sound)[1]["code_lengths"] is True


def test_two_others_of_the_same_last_name_do_not_share_a_file(tmp_path):
    bits = {0: 2.0, 1: 3.0}
    here = evaluated(tmp_path / "here", bits)
    for place in "xy":
        compared(here, evaluated(tmp_path / place / "run", bits))
    assert len(list((here / "comparisons").glob("7-uniform-k1-with-run-*.json"))) == 2
