"""A run of version 0.1 is evaluated as it was then, and its own evaluation is gone on with."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from diffusion_ode.evaluation.per_example import read_table
from launch.run import main

ARCHIVE = Path(__file__).parents[1] / "golden" / "run_of_0_1.tar.gz"
THEN = "4-truncated_normal-k1"  # of the first four images, which the name did not say
SETTINGS = (
    *("model.network.features=32", "model.network.blocks=1", "after_training=()"),
    *("evaluate.num_images=4", "evaluate.error_images=0"),
    "evaluate.ode.divergence.segments=1",  # it held its probe
)
# Equal to the last bit on the machine that made them; another processor rounds otherwise.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "run_of_0_1"


def evaluate(workdir, *settings):
    flags = (f"--set={setting}" for setting in (*SETTINGS, *settings))
    launch = ("--exp=digits_vp", f"--workdir={workdir}", "--task=evaluate", "--checkpoint=4")
    assert main([*launch, *flags]) == 0


def rows_of(folder):
    return read_table(folder / "per_example.csv")


def assert_same_rows(found, expected):
    assert found.keys() == expected.keys()
    for name, column in found.items():
        np.testing.assert_allclose(column, expected[name], rtol=ROUNDING, err_msg=name)


def test_checkpoint_of_0_1_has_the_figures_that_it_had(workdir):
    evaluate(workdir)
    then, now = (workdir / "evaluations" / name for name in (THEN, f"{THEN}-first4"))
    assert_same_rows(rows_of(now), rows_of(then))
    before, after = (json.loads((folder / "result.json").read_text()) for folder in (then, now))
    for figure in ("ode", "bound"):
        assert before[figure].keys() == after[figure].keys()
        for name in ("bpd", "standard_error"):
            assert after[figure][name] == pytest.approx(before[figure][name], rel=ROUNDING)
    assert after["checkpoint"] == before["checkpoint"]


def test_evaluation_that_0_1_began_is_gone_on_with(workdir):
    folder = workdir / "evaluations" / THEN
    whole, path = rows_of(folder), folder / "per_example.csv"
    (folder / "result.json").unlink()
    begun = "".join(path.read_text().splitlines(keepends=True)[:3])
    path.write_text(f"{begun}2,-4")
    evaluate(workdir, f"evaluate.name={THEN.partition('-')[2]}")
    assert path.read_text().startswith(begun)
    assert_same_rows(rows_of(folder), whole)
