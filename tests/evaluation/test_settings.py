"""Rows of one evaluation are of one model, one checkpoint, one data set and one way."""

import json
from dataclasses import make_dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.judged_images import JudgedImages
from diffusion_ode.evaluation.settings import EvaluationSettings
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.networks.unet import UNet
from diffusion_ode.training.data_identity import DataIdentity

EXPERIMENT = make_dataclass("Experiment", ["model", "evaluate"])(
    make_dataclass("Model", ["network"])(UNet()),
    make_dataclass("Evaluate", ["ode"])(OdeLikelihood()),
)


def call(name, **arguments):
    return {"call": f"m:{name}", "arguments": arguments}


def document(path="Straight", loop=False, **evaluate):
    model = call("Model", path=call(path), network=call("UNet", loop=loop))
    return call("Experiment", model=model, evaluate=call("Evaluate", **evaluate))


def settings(tmp_path, data="old (1)", digest="sha256:ab", num_images=4, **changed):
    loaded = SimpleNamespace(facts={"digest": digest})  # as of a published file: no data known
    images = JudgedImages(np.zeros((num_images, 2, 2, 1)), DataIdentity(data), "test", 9)
    return EvaluationSettings(tmp_path, EXPERIMENT, document(**changed), loaded, images)


def has_rows(folder):
    (folder / "per_example.csv").write_text("index,x\n0,1.0\n")


def test_settings_of_an_evaluation_that_has_found_nothing_bind_nobody(tmp_path):
    settings(tmp_path, seed=0).write()
    settings(tmp_path, seed=1).check()
    (tmp_path / "per_example.csv").write_text("index,x\n")
    settings(tmp_path, seed=1).check()


def test_it_goes_on_if_nothing_differs_that_a_row_depends_on(tmp_path):
    ode = {name: call("OdeLikelihood", lanes=lanes) for name, lanes in (("a", 32), ("b", 3))}
    settings(tmp_path, num_images=4, error_images=32, seed=0, ode=ode["a"]).write()
    has_rows(tmp_path)
    settings(tmp_path, num_images=8, error_images=0, seed=0, loop=True, ode=ode["b"]).check()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": "new (2)"}, r"data: 'old \(1\)' → 'new \(2\)'"),
        ({"digest": "sha256:cd"}, "checkpoint: 'sha256:ab' → 'sha256:cd'"),
        ({"path": "Curved"}, r"model.path: Straight\(\) → Curved\(\)"),
        ({"seed": 1}, "evaluate.seed: 0 → 1"),
    ],
)
def test_rows_of_another_kind_are_refused_naming_both(tmp_path, changed, said):
    settings(tmp_path, seed=0).write()
    has_rows(tmp_path)
    with pytest.raises(UserError, match=f"{said}.*a name of its own"):
        settings(tmp_path, **{"seed": 0, **changed}).check()


def test_settings_that_do_not_say_which_model_are_not_gone_on_with(tmp_path):
    settings(tmp_path).write()
    has_rows(tmp_path)
    path = tmp_path / "settings.json"
    before = json.loads(path.read_text())
    del before["dict"]["model"]
    path.write_text(json.dumps(before))
    with pytest.raises(UserError, match="its model was not recorded"):
        settings(tmp_path).check()


def test_result_of_another_size_is_not_replaced(tmp_path):
    times = {"seconds": 1.0, "images_per_second": None, "compilation_seconds": 0.0}
    result = {"data": {"num_images": 4}, "ode": None, **times}
    (tmp_path / "result.json").write_text(json.dumps(result))
    settings(tmp_path, num_images=4).check()
    with pytest.raises(UserError, match=r"result of 4 images, which one of 8 would .*=…$"):
        settings(tmp_path, num_images=8).check()
