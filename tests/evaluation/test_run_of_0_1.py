"""A run of version 0.1 is evaluated as it was then, and its own evaluation is gone on with."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from diffusion_ode.configs import construction, documents
from diffusion_ode.tasks.run import Run

ARCHIVE = Path(__file__).parents[1] / "golden" / "run_of_0_1.tar.gz"
THEN = "4-truncated_normal-k1"  # of the first four images, which the name did not say


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "run_of_0_1"


def evaluate(workdir, **changed):
    document = documents.read(workdir / "config.json")
    experiment = construction.build(document)
    evaluate = dataclasses.replace(experiment.evaluate, num_images=4, error_images=0, **changed)
    evaluate.run(Run(experiment, document, "digits_vp", workdir, checkpoint="4"))


def figures(folder):
    result = json.loads((folder / "result.json").read_text())
    return {key: result[key] for key in ("ode", "bound", "checkpoint", "quirks")}


def test_figures_of_a_checkpoint_of_0_1_are_the_same_to_the_last_bit(workdir):
    evaluate(workdir)
    then, now = (workdir / "evaluations" / name for name in (THEN, f"{THEN}-first4"))
    assert (now / "per_example.csv").read_text() == (then / "per_example.csv").read_text()
    assert figures(now) == figures(then)


def test_evaluation_that_0_1_began_is_gone_on_with(workdir):
    folder = workdir / "evaluations" / THEN
    whole, before = (folder / "per_example.csv").read_text(), figures(folder)
    (folder / "result.json").unlink()
    (folder / "per_example.csv").write_text("".join(whole.splitlines(keepends=True)[:3]) + "2,-4")
    evaluate(workdir, name=THEN.partition("-")[2])
    assert (folder / "per_example.csv").read_text() == whole
    assert figures(folder) == before
