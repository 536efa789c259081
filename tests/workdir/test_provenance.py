"""`run.json` holds every launch that began, whoever else writes at the same time."""

import json
import multiprocessing

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.provenance import launches_of, recorded
from tests.mutations import NO_OBJECTS


def entries(workdir):
    return json.loads((workdir / "run.json").read_text())["launches"]


def _launch(workdir, name):
    for number in range(10):
        with recorded(workdir, task=f"{name} {number}") as launch:
            launch.begin()


def test_launches_at_the_same_time_lose_none_of_each_others_entries(tmp_path):
    processes = multiprocessing.get_context("spawn")
    launching = [processes.Process(target=_launch, args=(tmp_path, name)) for name in "ab"]
    for process in launching:
        process.start()
    for process in launching:
        process.join()
    assert len(entries(tmp_path)) == 20
    assert {entry["outcome"] for entry in entries(tmp_path)} == {"done"}


@pytest.mark.parametrize("content", [*NO_OBJECTS, b'{"launches": [5, null, "x"]}'])
def test_what_is_no_record_of_launches_has_none_and_stops_none(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    assert launches_of(tmp_path) == []
    with recorded(tmp_path, task="train") as launch:
        launch.begin()
    assert [entry["outcome"] for entry in entries(tmp_path)] == ["done"]


@pytest.mark.parametrize("error", [UserError("no data"), KeyboardInterrupt()])
def test_a_launch_that_never_began_is_not_written_down(tmp_path, error):
    with pytest.raises(type(error)), recorded(tmp_path / "new", task="train"):
        raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UserError("no data"), "refused: no data"),
        (SystemExit(75), "interrupted"),
        (RuntimeError("no paper"), "failed: no paper"),
    ],
)
def test_how_a_launch_ended_is_written_down(tmp_path, error, outcome):
    with pytest.raises(type(error)), recorded(tmp_path, task="train") as launch:
        launch.add({"data_fingerprint": "0123"})
        launch.begin()
        assert "stopped" not in entries(tmp_path)[0]
        raise error
    (entry,) = entries(tmp_path)
    assert entry["outcome"] == outcome
    assert entry["stopped"] >= entry["started"]
    assert entry["data_fingerprint"] == "0123"


def test_a_failure_before_the_beginning_is_written_down_beside_its_traceback(tmp_path):
    with pytest.raises(RuntimeError), recorded(tmp_path, task="train"):
        raise RuntimeError("no paper")
    assert entries(tmp_path)[0]["outcome"] == "failed: no paper"
