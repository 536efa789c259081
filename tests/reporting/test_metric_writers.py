"""Measured values: each point once, whatever happened in between."""

import json
import struct

import numpy as np
import pytest
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from diffusion_ode.errors import UserError
from diffusion_ode.reporting.csv_writer import CsvWriter
from diffusion_ode.reporting.jsonl_writer import JsonlWriter
from diffusion_ode.reporting.metric_writers import MetricWriters
from diffusion_ode.reporting.tensorboard_writer import TensorBoardWriter


def events_in(workdir):
    """All events in the order in which TensorBoard reads them."""
    for path in sorted((workdir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def points_in(workdir, tag):
    """What TensorBoard shows of a curve: a session's start voids all later steps before it."""
    points = []
    for event in events_in(workdir):
        if event.HasField("session_log"):
            points = [(step, value) for step, value in points if step < event.step]
        points += [(event.step, v.simple_value) for v in event.summary.value if v.tag == tag]
    return points


def opened(writer, folder):
    writer.open(folder)
    return writer


def steps_in(path):
    return [json.loads(line)["step"] for line in path.open()]


def test_numbers_keep_their_full_precision(tmp_path):
    writer = JsonlWriter()
    value = np.float32(2.1)
    MetricWriters([writer], tmp_path).write_scalars(10, {"train/bpd": value, "train/rate": 1 / 3})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert list(json.loads(line)) == ["step", "train/bpd", "train/rate"]
    assert json.loads(line) == {"step": 10, "train/bpd": float(value), "train/rate": 1 / 3}


def test_a_number_that_is_not_finite_is_null_since_json_has_none(tmp_path):
    writer = opened(JsonlWriter(), tmp_path)
    writer.write_scalars(1, {"a": float("nan"), "b": float("inf")})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "a": null, "b": null}\n'


def test_lines_are_on_disk_at_once(tmp_path):
    writer = opened(JsonlWriter(), tmp_path)
    for step in range(3):
        writer.write_scalars(step, {"a": step})
        assert steps_in(tmp_path / "metrics.jsonl") == list(range(step + 1))


@pytest.mark.parametrize("step, kept", [(20, [10, 20]), (25, [10, 20]), (0, []), (None, [])])
def test_a_resume_forgets_what_came_after_it(tmp_path, step, kept):
    path = tmp_path / "metrics.jsonl"
    writer = opened(JsonlWriter(), tmp_path)
    for k in (10, 20, 30, 40):
        writer.write_scalars(k, {"a": k})
    resumed = opened(JsonlWriter(), tmp_path)
    resumed.resume_at(step)
    assert steps_in(path) == kept
    resumed.write_scalars(30, {"a": 3})
    assert steps_in(path) == [*kept, 30]
    assert [f.name for f in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("resume", [True, False])
def test_half_a_row_from_a_kill_is_dropped(tmp_path, resume):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n10,1.0,\n20,2.0,7.5\n30,2")
    writer = opened(CsvWriter(), tmp_path)
    if resume:
        writer.resume_at(20)
    writer.write_scalars(30, {"a": 3.0})
    assert path.read_text() == "step,a,b\n10,1.0,\n20,2.0,7.5\n30,3.0,\n"
    writer.write_scalars(40, {"c": 4.0})
    assert path.read_text().splitlines()[::4] == ["step,a,b,c", "40,,,4.0"]


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "content",
    [b"step,a\n1,2\r3\n", b'step,a\n1,"2\n3,4\n', b"\xef\xbb\xbfstep,a\n1,2\n", b"a,b\n1,2\n"],
)
def test_a_file_that_another_program_has_written_is_left_as_it_is(tmp_path, content, resume):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    writer = opened(CsvWriter(), tmp_path)
    with pytest.raises(UserError, match=r"metrics.csv cannot be read .*: move it away"):
        writer.resume_at(4) if resume else writer.write_scalars(5, {"a": 1.0})
    assert path.read_bytes() == content


@pytest.mark.parametrize("resume", [True, False])
def test_half_a_line_from_a_kill_is_dropped(tmp_path, resume):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10, "a": 1.0}\n{"step": 20, "a": 2')
    writer = opened(JsonlWriter(), tmp_path)
    if resume:
        writer.resume_at(10)
    writer.write_scalars(20, {"a": 3.0})
    assert path.read_text() == '{"step": 10, "a": 1.0}\n{"step": 20, "a": 3.0}\n'


def test_resuming_where_nothing_was_written_is_no_failure(tmp_path):
    for writer in (JsonlWriter(), TensorBoardWriter()):
        writer.open(tmp_path)
        writer.resume_at(None)
        writer.resume_at(10)
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_two_writers_within_a_second_lose_nothing(tmp_path):
    for step in range(4):
        writer = opened(TensorBoardWriter(), tmp_path)
        writer.write_scalars(step, {"train/bpd": 2.0 + step})
        writer.close()
    assert points_in(tmp_path, "train/bpd") == [(0, 2.0), (1, 3.0), (2, 4.0), (3, 5.0)]


def test_a_resume_doubles_no_point_in_tensorboard(tmp_path):
    first = opened(TensorBoardWriter(), tmp_path)
    for step in (10, 20, 30):
        first.write_scalars(step, {"a": step})
    resumed = opened(TensorBoardWriter(), tmp_path)  # the first was killed: it has closed nothing
    resumed.resume_at(20)
    resumed.write_scalars(30, {"a": 31})
    assert points_in(tmp_path, "a") == [(10, 10.0), (20, 20.0), (30, 31.0)]


def test_launches_keep_their_order_when_the_clock_is_set_back(tmp_path, monkeypatch):
    earlier = "events.out.tfevents.1999999999.host.0000"  # as another version named it
    for step, now in ((10, 2e9), (20, 1e9), (30, 1.5e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        writer = opened(TensorBoardWriter(), tmp_path)
        writer.resume_at(step - 10)
        writer.write_scalars(step, {"a": step})
        writer.close()
        if step == 10:
            (file,) = (tmp_path / "tensorboard").iterdir()
            file.rename(file.with_name(earlier))
    assert [step for step, _ in points_in(tmp_path, "a")] == [10, 20, 30]


def test_a_histogram_reaches_the_writers_that_take_one(tmp_path):
    edges, heights = np.array([-7.0, -1.0, 5.0]), np.array([0.5, 1.5])
    with MetricWriters([JsonlWriter(), TensorBoardWriter()], tmp_path) as writers:
        writers.write_histogram(5, "train/bits_by_time", edges, heights)
    assert not (tmp_path / "metrics.jsonl").exists()
    (drawn,) = (v.histo for e in events_in(tmp_path) for v in e.summary.value)
    assert (list(drawn.bucket_limit), list(drawn.bucket)) == ([-7.0, -1.0, 5.0], [0.0, 0.5, 1.5])


def test_tensorboard_has_the_config_as_text_and_the_hyper_parameters(tmp_path):
    with MetricWriters([JsonlWriter(), TensorBoardWriter()], tmp_path) as writers:
        writers.write_config(7, '{"a": 1}', {"train.seed": 3, "path": "StraightPath", "x": True})
    values = [(e.step, v) for e in events_in(tmp_path) for v in e.summary.value]
    (text,) = (v.tensor.string_val for step, v in values if v.tag == "config/text_summary")
    assert text == [b'```json\n{"a": 1}\n```']
    (start,) = (v for _, v in values if v.tag == "_hparams_/session_start_info")
    content = plugin_hparams_pb2.HParamsPluginData.FromString(start.metadata.plugin_data.content)
    settings = content.session_start_info.hparams
    assert settings["train.seed"].number_value == 3.0
    assert settings["path"].string_value == "StraightPath"
    assert settings["x"].bool_value is True
    assert {step for step, _ in values} == {7}


def test_wall_time_is_tensorboard_s_own_and_no_curve(tmp_path):
    opened(TensorBoardWriter(), tmp_path).write_scalars(1, {"a": 2.0, "wall_time": 1e9})
    (event,) = (e for e in events_in(tmp_path) if e.HasField("summary"))
    assert (event.wall_time, [v.tag for v in event.summary.value]) == (1e9, ["a"])


def test_several_writers_work_as_one(tmp_path):
    with MetricWriters([JsonlWriter(), TensorBoardWriter()], tmp_path) as writers:
        writers.resume_at(None)
        writers.write_scalars(5, {"a": 1.5})
        writers.write_image(5, "samples", np.zeros((4, 6, 1), np.uint8))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5, "a": 1.5}
    assert points_in(tmp_path, "a") == [(5, 1.5)]
    (picture,) = (v.image for e in events_in(tmp_path) for v in e.summary.value if v.image.width)
    assert (picture.height, picture.width) == (4, 6)


@pytest.mark.parametrize("linked", ["tensorboard", "tensorboard/samples", "tensorboard/samples/12"])
def test_another_run_s_events_are_not_replaced_through_a_link(tmp_path, linked):
    other = tmp_path / "other"
    there = other / "samples/12" if linked == "tensorboard" else other
    there = other / "12" if linked.endswith("samples") else there
    there.mkdir(parents=True)
    (there / "events.run1").write_text("its own")
    (tmp_path / "run" / linked).parent.mkdir(parents=True)
    (tmp_path / "run" / linked).symlink_to(other)
    with pytest.raises(UserError, match=f"run/{linked} is a link, which is not followed"):
        TensorBoardWriter().replace(tmp_path / "run", "samples/12")
    assert (there / "events.run1").read_text() == "its own"
