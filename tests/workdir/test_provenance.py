"""`run.json` holds every launch that began, whoever else writes at the same time."""

import json
import multiprocessing
from unittest.mock import Mock

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
def test_what_is_no_record_of_launches_has_none_and_stops_none(tmp_path, content, capsys):
    (tmp_path / "run.json").write_bytes(content)
    assert launches_of(tmp_path) == []
    with recorded(tmp_path, task="train") as launch:
        launch.begin()
    assert [entry["outcome"] for entry in entries(tmp_path)] == ["done"]
    kept = [path.read_bytes() for path in tmp_path.glob("run.json.damaged-*")]
    assert kept == ([content] if content else [])
    assert capsys.readouterr().err.count("run.json.damaged-1.\n") == len(kept)


@pytest.mark.parametrize("links", [True, False])
def test_each_damaged_record_is_kept_beside_the_one_before(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr("os.link", Mock(side_effect=PermissionError(1, "no links here")))
    for number in (1, 2):
        with recorded(tmp_path, task="train") as launch:
            launch.begin()
        half = (tmp_path / "run.json").read_bytes()[:-20]
        (tmp_path / "run.json").write_bytes(half)
        with recorded(tmp_path, task="evaluate") as launch:
            launch.begin()
        assert (tmp_path / f"run.json.damaged-{number}").read_bytes() == half
        assert entries(tmp_path)[-1]["outcome"] == "done"


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


@pytest.mark.parametrize("again", [False, True])
def test_a_launch_whose_workdir_goes_away_does_not_make_it_anew(tmp_path, again):
    workdir = tmp_path / "run"
    with (
        pytest.raises(UserError, match=r"run has been removed, emptied or put elsewhere meanwhile"),
        recorded(workdir, task="evaluate") as launch,
    ):
        launch.begin()
        workdir.rename(tmp_path / "elsewhere")
        if again:
            workdir.mkdir()
    assert workdir.exists() == again
    assert not again or not list(workdir.iterdir())
