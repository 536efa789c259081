"""A point of a sweep is done if its workdir says so, and not if nobody can tell."""

import json

import pytest

from launch.grid import Point
from launch.progress_of_runs import is_done
from tests.mutations import NO_OBJECTS, WRONG_VALUES

CONFIG = {"call": "m:Experiment", "arguments": {}}
POINT = Point("a", "digits_vp", (), CONFIG, ("train", "evaluate"))
LAUNCHES = [
    {"task": "train", "outcome": "done", "started": "2026-11-28T10:00:00+00:00"},
    {"task": "evaluate", "outcome": "done", "started": "2026-11-28T11:00:00+00:00"},
]


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def done(workdir, launches):
    (workdir / "run.json").write_text(json.dumps({"launches": launches}))
    return is_done(POINT, workdir)


def test_point_is_done_once_each_task_has_ended_well_after_its_training(workdir):
    assert done(workdir, LAUNCHES)
    assert done(workdir, [5, *LAUNCHES])
    assert not done(workdir, LAUNCHES[:1])
    assert not done(workdir, LAUNCHES[::-1])
    assert done(workdir, [LAUNCHES[1] | {"outcome": "failed"}, *LAUNCHES])
    assert not done(workdir, [*LAUNCHES, LAUNCHES[0]])


@pytest.mark.parametrize(
    "times",
    [
        ("2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00"),  # the end of summer time
        ("2026-10-25T02:50:00+02:00", "2026-10-25T02:40:00+02:00"),  # a clock set back
        (5, None),
    ],
)
def test_point_is_done_whatever_the_clock_said_meanwhile(workdir, times):
    launches = [each | {"started": at} for each, at in zip(LAUNCHES, times, strict=True)]
    assert done(workdir, launches)
    assert not done(workdir, launches[::-1])


@pytest.mark.parametrize("name", ["run.json", "config.json"])
@pytest.mark.parametrize("content", NO_OBJECTS)
def test_point_of_damaged_files_is_not_done(workdir, name, content):
    assert done(workdir, LAUNCHES)
    (workdir / name).write_bytes(content)
    assert not is_done(POINT, workdir)


@pytest.mark.parametrize("wrong", WRONG_VALUES)
@pytest.mark.parametrize("field", ["task", "outcome"])
def test_point_of_a_launch_with_a_field_of_another_kind_is_not_done(workdir, field, wrong):
    assert not done(workdir, [LAUNCHES[0] | {field: wrong}, LAUNCHES[1]])
    without = {name: value for name, value in LAUNCHES[0].items() if name != field}
    assert not done(workdir, [without, LAUNCHES[1]])
