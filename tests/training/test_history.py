"""Which step was taken under which settings, by which code."""

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.training.history import remember
from diffusion_ode.workdir.result_files import read_json, write_json

OLD, NEW = {"revision": "a"}, {"revision": "b"}


def config(rate):
    return {"call": "Experiment", "arguments": {"rate": rate}}


def history(folder):
    notes = read_json(folder / "history.json")["settings"]
    return [(n["after_step"], n["config"]["arguments"]["rate"], n["changes"]) for n in notes]


def test_a_resume_under_the_same_settings_adds_nothing(tmp_path):
    for step in (0, 10, 20):
        remember(tmp_path, step, config(1), OLD)
    assert history(tmp_path) == [(0, 1, [])]


def test_other_settings_and_other_code_are_noted_with_the_step(tmp_path):
    remember(tmp_path, 0, config(1), OLD)
    remember(tmp_path, 10, config(2), OLD)
    remember(tmp_path, 20, config(2), NEW)
    assert history(tmp_path) == [(0, 1, []), (10, 2, ["rate: 1 → 2"]), (20, 2, [])]


def test_steps_that_were_lost_leave_no_note(tmp_path):
    remember(tmp_path, 0, config(1), OLD)
    remember(tmp_path, 10, config(2), OLD)  # and killed before the next checkpoint
    remember(tmp_path, 10, config(1), OLD)
    assert history(tmp_path) == [(0, 1, [])]


def test_a_run_of_an_earlier_version_keeps_what_its_config_said(tmp_path):
    remember(tmp_path, 10, config(2), NEW, before=config(1))
    assert history(tmp_path) == [(0, 1, []), (10, 2, ["rate: 1 → 2"])]


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"settings": {}}, {"settings": None}, {"settings": [], "mine": 1}]
    + [{"settings": [note]} for note in (None, {}, {"after_step": 0})],
)
def test_what_is_no_history_is_left_as_it_is(tmp_path, content):
    write_json(tmp_path / "history.json", content)
    before = (tmp_path / "history.json").read_bytes()
    with pytest.raises(UserError, match=r"history.json is damaged .*: move it away, and run again"):
        remember(tmp_path, 10, config(2), NEW, before=config(1))
    assert (tmp_path / "history.json").read_bytes() == before
