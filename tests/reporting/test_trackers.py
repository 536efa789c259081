"""Other places for measured values: a CSV file, Weights & Biases offline, MLflow's folder.

The last two need `pip install -r requirements-trackers.txt`, which takes a minute.
"""

import csv
import json
import os
import struct
import sys

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.reporting.csv_writer import CsvWriter
from diffusion_ode.reporting.metric_writers import ConfigWriter, HistogramWriter, MetricWriters
from diffusion_ode.reporting.mlflow_writer import MlflowWriter
from diffusion_ode.reporting.wandb_writer import WandbWriter

NOT_INSTALLED = "an optional tracker, not installed: pip install -r requirements-trackers.txt"
SETTINGS = {"train.seed": 0, "train.optimizer": "AdamW", "model.base": "None", "rate": 0.5}


def launch(writer, workdir, resume, steps):
    """One launch of a training that writes all kinds of values."""
    with MetricWriters([writer], workdir) as writers:
        writers.resume_at(resume)
        writers.write_config(resume or 0, '{"a": 1}', SETTINGS)
        for step in steps:
            norms = {"train/norm": 1.0, "train/norm/up.block[0]": 0.5}
            writers.write_scalars(step, {"train/bpd": 1 / step, **norms, "wall_time": 1e9 + step})
            writers.write_image(step, "samples", np.full((4, 6, 1), step, np.uint8))


def rows(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_column_for_each_name_however_late_it_comes(tmp_path):
    with MetricWriters([CsvWriter()], tmp_path) as writers:
        writers.write_scalars(10, {"a": 1 / 3, "wall_time": 5.5})
        writers.write_scalars(20, {"a": float("nan"), "b, or c": 2.0, "wall_time": 6.5})
        writers.write_scalars(30, {"wall_time": 7.5})
    text = (tmp_path / "metrics.csv").read_text().splitlines()
    assert text[0] == 'step,a,wall_time,"b, or c"'
    assert text[1:] == ["10,0.3333333333333333,5.5,", "20,nan,6.5,2.0", "30,,7.5,"]


@pytest.mark.parametrize("step, kept", [(20, ["10", "20"]), (None, [])])
def test_csv_forgets_what_came_after_a_resume_and_half_a_row(tmp_path, step, kept):
    with MetricWriters([CsvWriter()], tmp_path) as writers:
        for k in (10, 20, 30):
            writers.write_scalars(k, {"a": k, "b": k})
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("40,1.")
    with MetricWriters([CsvWriter()], tmp_path) as writers:
        writers.resume_at(step)
        assert [row["step"] for row in rows(tmp_path)] == kept
        writers.write_scalars(30, {"a": 3.5, "b": 1.0})
    assert [row["step"] for row in rows(tmp_path)] == [*kept, "30"]
    assert rows(tmp_path)[-1]["a"] == "3.5"


@pytest.mark.parametrize(
    "writer, library, command",
    [
        (WandbWriter(mode="offline"), "wandb", "pip install wandb, or"),
        (MlflowWriter(), "mlflow", "pip install mlflow-skinny, or"),
    ],
)
def test_a_missing_library_is_one_sentence_before_anything_is_written(
    writer, library, command, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=command):
        MetricWriters([writer], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def wandb(tmp_path_factory, monkeypatch):
    wandb = pytest.importorskip("wandb", reason=NOT_INSTALLED)
    home = tmp_path_factory.mktemp("wandb")
    for place in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(place, str(home))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield wandb
    wandb.teardown()


def records(workdir, kind):
    """The records of a kind in all files of `wandb/`: blocks of 32 KiB, as of LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    for path in sorted(workdir.glob("wandb/offline-run-*/run-*.wandb")):
        content, place, whole = path.read_bytes(), 7, b""
        while place + 7 <= len(content):
            left = 32768 - place % 32768
            if left < 7:
                place += left
                continue
            _, size, part = struct.unpack("<IHB", content[place : place + 7])
            whole += content[place + 7 : place + 7 + size]
            place += 7 + size
            if part in (1, 4):  # whole, or the last of several
                record = wandb_internal_pb2.Record.FromString(whole)
                whole = b""
                if record.WhichOneof("record_type") == kind:
                    yield getattr(record, kind)


def points(workdir, name):
    """(step, value) of a curve in what would be sent, in order."""
    for history in records(workdir, "history"):
        values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in history.item}
        if name in values:
            yield values["_step"], values[name]


def test_wandb_offline_has_every_point_once_whatever_happened_in_between(wandb, tmp_path):
    writer = WandbWriter(project="ours", mode="offline")
    launch(writer, tmp_path, None, [10, 20, 30])
    launch(writer, tmp_path, 20, [30, 40])
    assert list(points(tmp_path, "train/bpd")) == [(k, 1.0 / k) for k in (10, 20, 30, 40)]
    assert [step for step, _ in points(tmp_path, "samples/path")] == [10, 20, 30, 40]
    runs = {(run.run_id, run.project, run.display_name) for run in records(tmp_path, "run")}
    known = json.loads((tmp_path / "wandb.json").read_text())
    assert runs == {(known["id"], "ours", tmp_path.name)}
    launch(writer, tmp_path, None, [10])  # begun anew: another run
    assert json.loads((tmp_path / "wandb.json").read_text())["id"] != known["id"]


def test_wandb_has_the_settings_and_histograms(wandb, tmp_path):
    with MetricWriters([WandbWriter(mode="offline")], tmp_path) as writers:
        writers.write_config(0, "{}", SETTINGS)
        writers.write_histogram(5, "by_time", np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0]))
    settings = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for config in records(tmp_path, "config")
        for item in config.update
    }
    assert SETTINGS.items() <= settings.items()
    assert list(points(tmp_path, "by_time/values")) == [(5, [3, 4])]


def test_wandb_online_without_an_account_is_one_sentence_before_anything(wandb, tmp_path):
    with pytest.raises(UserError, match=r"No API key.*wandb login.*offline") as refusal:
        MetricWriters([WandbWriter()], tmp_path)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_mlflow_s_folder_has_every_point_once_and_the_config(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason=NOT_INSTALLED)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    writer = MlflowWriter()
    launch(writer, tmp_path, None, [10, 20, 30])
    launch(writer, tmp_path, 20, [30, 40])
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("diffusion-ode").experiment_id])
    assert (run.info.run_name, run.info.status) == (tmp_path.name, "FINISHED")
    curve = client.get_metric_history(run.info.run_id, "train/bpd")
    assert [(p.step, p.value, p.timestamp) for p in curve] == [
        (k, 1.0 / k, 1000 * (10**9 + k)) for k in (10, 20, 30, 40)
    ]
    assert run.data.metrics == {
        "train/bpd": 1 / 40,
        "train/norm": 1.0,
        "train/norm.up.block_0_": 0.5,
    }
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert {"config.json", "images"} <= set(files)
    assert os.environ["MLFLOW_ALLOW_FILE_STORE"] == "true"


def test_mlflow_s_failures_are_one_sentence(tmp_path):
    pytest.importorskip("mlflow", reason=NOT_INSTALLED)
    writer = MlflowWriter()
    launch(writer, tmp_path, None, [1])
    (tmp_path / "mlflow.json").write_text('{"id": "0123", "sent": {}}')
    with pytest.raises(UserError, match=r"0123.*remove .*mlflow\.json") as refusal:
        launch(writer, tmp_path, 1, [2])
    assert "\n" not in str(refusal.value)


def test_who_takes_configs_and_histograms():
    assert isinstance(WandbWriter(), ConfigWriter) and isinstance(WandbWriter(), HistogramWriter)
    assert isinstance(MlflowWriter(), ConfigWriter)
    assert not isinstance(MlflowWriter(), HistogramWriter)
