"""A run of version 0.1 goes on as it would have gone on then."""

import json
import tarfile
from pathlib import Path

import pytest

from launch.run import main

ARCHIVE = Path(__file__).parents[1] / "golden" / "run_of_0_1.tar.gz"
SETTINGS = (
    "train.optimizer=adamw(learning_rate=warmed_up_then_cosine(peak=4e-3, warmup_steps=150))",
    *("model.network.features=32", "model.network.blocks=1", "after_training=()"),
    *("train.num_steps=8", "train.batch_size=32", "train.log_every=1", "train.checkpoint_every=4"),
    *("train.validation_images=0", "data.held_out=0", "train.pictures_every=None"),
)
# Equal to the last bit on the machine that made them; another processor rounds otherwise.
ROUNDING = 1e-4


def test_steps_after_a_checkpoint_of_0_1_are_those_that_it_took(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    metrics = tmp_path / "run_of_0_1" / "metrics.jsonl"
    then = [json.loads(line) for line in metrics.read_text().splitlines()]
    flags = [f"--set={setting}" for setting in SETTINGS]
    assert main(["--exp=digits_vp", f"--workdir={metrics.parent}", *flags]) == 0
    now = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in now] == [line["step"] for line in then] == list(range(1, 9))
    for before, after in zip(then[4:], now[4:], strict=True):
        for name in ("bpd", "loss_variance", "gradient_norm", "learning_rate"):
            assert after[f"train/{name}"] == pytest.approx(before[f"train/{name}"], rel=ROUNDING)
    assert "train/update_to_weight" in now[4]  # these lines are of this version
