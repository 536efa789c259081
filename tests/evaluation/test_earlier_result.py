"""What an evaluation has found before is kept only if it is of its kind."""

import json
import os

import pytest

from diffusion_ode.evaluation.earlier_result import earlier_result, kept_parts, kept_times
from diffusion_ode.evaluation.evaluated import list_finished
from diffusion_ode.evaluation.in_words import in_words
from tests.mutations import NO_OBJECTS, WRONG_VALUES, with_wrong_values

PART = {"value": 0.1, "standard_error": 0.01, "num_images": 2}
PARTS = {
    "standard_error_parts": {"images": PART, "dequantization": PART, "probes": None},
    "solver_error": {"mean": 0.1, "standard_error": None, "rms": 0.2, "num_images": 2},
    "error_images": 2,
}
TIMES = {"seconds": 2.0, "images_per_second": 2.0, "compilation_seconds": 1.0}
RESULT = {"data": {"num_images": 2}, "ode": PARTS, **TIMES}
FOUND_ANEW = {
    "data": {"num_images": 2, "split_images": 3, "split": "test", "name": "a", "fingerprint": "f"},
    "bound": None,
    "quirks": [],
}
ODE = {
    "dequantization": "uniform",
    "num_importance": 1,
    "trace": "exact",
    "num_images": 2,
    "bpd": 2.5,
    "standard_error": 0.1,
    "nfe_mean": 20.0,
    "biased_by_probes": False,
    "nfe_quantiles": {"0.05": 20.0, "0.95": 20.0},
    "not_converged": [],
}


def test_parts_and_times_are_kept_unless_more_images_are_asked_for(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    earlier = earlier_result(tmp_path)
    assert kept_parts(earlier, 2) == PARTS
    assert kept_parts(earlier, 3) is None
    assert kept_times(earlier) == TIMES


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_damaged_result_is_none(tmp_path, content):
    (tmp_path / "result.json").write_bytes(content)
    assert earlier_result(tmp_path) is None


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_what_is_of_another_kind_is_found_anew(tmp_path, wrong):
    some_are_of_it = wrong is None or isinstance(wrong, int | float)
    for result in with_wrong_values(RESULT, wrong):
        (tmp_path / "result.json").write_text(json.dumps(result))
        earlier = earlier_result(tmp_path)
        parts = kept_parts(earlier, 2)
        in_words({**FOUND_ANEW, "ode": ODE | (parts or PARTS), **(kept_times(earlier) or TIMES)})
        assert some_are_of_it or earlier is None


def test_of_evaluations_of_one_moment_the_last_step_comes_first(tmp_path):
    for name in ("9-ode", "100-ode", "x-ode", "20-bound"):
        (tmp_path / "evaluations" / name).mkdir(parents=True)
        (tmp_path / "evaluations" / name / "result.json").write_text("{}")
        os.utime(tmp_path / "evaluations" / name / "result.json", (5, 5))
    names = [folder.name for folder in list_finished(tmp_path)]
    assert names == ["100-ode", "20-bound", "9-ode", "x-ode"]
    os.utime(tmp_path / "evaluations/9-ode/result.json", (6, 6))
    assert list_finished(tmp_path)[0].name == "9-ode"
