"""Held-out images while training: the curve, what it decides, and that it survives a kill."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

from data.pipeline import Data
from data.sources.array_file import ArrayFile
from diffusion_ode.errors import UserError
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.validation import (
    HeldOutBound,
    NoImprovement,
    Validation,
    ValidationCurve,
    affordable_count,
    chosen_interval,
    spread,
)
from launch.run import main
from tests.published_checkpoint import small_model
from tests.training.test_loop import START, Recorder, loop

SMALL = (
    *("--exp=digits_vp", "--set=model.network.features=32", "--set=model.network.blocks=1"),
    *("--set=train.batch_size=8", "--set=train.log_every=4", "--set=after_training=()"),
    "--set=train.pictures_every=None",
)


def curve(*values, **fields):
    """A curve whose judgements are these values, one after the other."""
    values = iter(values)
    return ValidationCurve(lambda ema: np.asarray([next(values)] * 2), **fields)


def points(*values):
    return [Validation(step, value, 0.1) for step, value in enumerate(values)]


def test_the_interval_keeps_validation_below_a_fiftieth_and_falls_on_checkpoints():
    bound = VariationalBound(draws=2)
    every = chosen_interval(150, bound, batch_size=32, checkpoint_every=50)
    assert every == 250
    assert 0.02 * every * 2 * 32 >= 150 * 2
    assert chosen_interval(1, bound, batch_size=1024, checkpoint_every=1000) == 1000


def test_a_short_run_judges_fewer_images_a_few_times():
    bound = VariationalBound(draws=2)
    count = affordable_count(bound, batch_size=32, num_steps=300)
    assert 4 * chosen_interval(count, bound, batch_size=32, checkpoint_every=1) <= 300
    assert affordable_count(bound, batch_size=32, num_steps=1000) >= 150  # digits_vp's
    assert affordable_count(bound, batch_size=1, num_steps=1) == 1


@pytest.mark.parametrize("count", [1, 128, 129, 150, 300])
def test_hardly_an_image_is_judged_for_nothing(count):
    model = small_model()
    images = np.zeros((count, *model.pixels.shape), np.uint8)
    judge = HeldOutBound(model, Mesh(data=1).build(), images, VariationalBound(), 0)
    sizes = [len(levels) for levels, _ in judge._batches]
    assert max(sizes) <= 128 and sum(sizes) < count + len(sizes)


def test_images_are_spread_over_their_split():
    assert spread(np.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(np.arange(3), 5).tolist() == [0, 1, 2]
    assert len(spread(np.arange(0), 5)) == 0


def test_patience_counts_validations_since_the_lowest():
    rule = NoImprovement(patience=2)
    assert not rule.stops(points())
    assert not rule.stops(points(3.0, 2.0, 2.5))
    assert rule.stops(points(3.0, 2.0, 2.5, 2.1))
    assert not rule.stops(points(math.nan, 3.0, 2.0, 1.5))


def test_a_new_lowest_point_is_saved_even_between_checkpoints():
    recorder = Recorder()
    validation = curve(3.0, 2.0, 2.5, 1.5, 1.6, every=2)
    loop(recorder, validation=validation).run(START)
    assert [(step, metrics.get("validation_bpd")) for step, *_, metrics in recorder.saved] == [
        *((102, 3.0), (104, 2.0), (105, None), (108, 1.5)),
        (110, 1.6),
    ]
    logged = {step: scalars["validation/bpd"] for step, scalars in recorder.scalars}
    assert logged == {102: 3.0, 104: 2.0, 106: 2.5, 108: 1.5, 110: 1.6}


def test_a_rule_ends_the_training_with_everything_saved_and_stays_ended():
    recorder = Recorder()
    validation = curve(3.0, 3.5, 4.0, every=2, rule=NoImprovement(patience=1))
    state = loop(recorder, validation=validation).run(START)
    assert int(state.step) == recorder.saved[-1][0] == recorder.scalars[-1][0] == 104
    again = loop(Recorder(), validation=validation).run(state)
    assert int(again.step) == 104


def test_a_curve_goes_on_from_what_a_checkpoint_knows():
    first = curve(3.0, 2.0)
    first.validate(10, None)
    first.validate(20, None)
    second = curve()
    second.resume(json.loads(json.dumps(first.facts())))
    assert second.points == first.points
    assert second.is_lowest
    assert second.metrics(20) == {"validation_bpd": 2.0}
    assert second.metrics(21) == {}


def test_an_image_is_judged_under_the_same_noise_whatever_is_judged_beside_it():
    model = small_model()
    images = np.random.default_rng(0).integers(0, 256, (5, *model.pixels.shape)).astype(np.uint8)
    parameters = model.init(jax.random.key(0))
    bound = VariationalBound(draws=1)
    placement = Mesh(data=1).build()
    judged = HeldOutBound(model, placement, images, bound, seed=3)(parameters)
    assert judged.shape == (5,)
    assert np.array_equal(judged, HeldOutBound(model, placement, images, bound, 3)(parameters))
    fewer = HeldOutBound(model, placement, images[:2], bound, seed=3)(parameters)
    np.testing.assert_allclose(fewer, judged[:2], rtol=1e-5)


def test_a_killed_run_has_the_same_curve_and_best_is_its_minimum(tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    flags = (*SMALL, "--set=train.num_steps=8", "--set=train.checkpoint_every=4")
    flags = (*flags, "--set=train.validate_every=2", "--set=train.validation_images=4")
    assert main([*flags, f"--workdir={whole}"]) == 0
    shutil.copytree(whole, killed)
    for folder in (killed / "checkpoints").iterdir():
        if int(folder.name) > 4:
            shutil.rmtree(folder)
    assert main([*flags, f"--workdir={killed}"]) == 0
    assert "resuming at step 4" in capsys.readouterr().out
    curves = [_curve(folder) for folder in (whole, killed)]
    assert curves[0] == curves[1]
    assert sorted(curves[0]) == [2, 4, 6, 8]
    lowest = min(curves[0], key=curves[0].__getitem__)
    assert (whole / "checkpoints" / str(lowest)).is_dir()

    # Nothing that was trained on is taken for held out, and nothing held out for trained on.
    judged = (*flags, f"--workdir={whole}", "--task=evaluate", "--set=evaluate.ode=None")
    for held_out, split, wrong in (
        (200, "validation", "50 of the validation"),
        (100, "train", "50"),
    ):
        said = [f"--set=data.held_out={held_out}", f"--set=evaluate.split={split}"]
        assert main([*judged, *said]) == 2
        assert wrong in (error := capsys.readouterr().err) and "data.held_out at 150" in error
    warm = (*flags, f"--init_from={whole}", "--set=data.held_out=200")
    assert main([*warm, f"--workdir={tmp_path / 'warm'}"]) == 2
    assert "trained on 50 of the validation images" in capsys.readouterr().err


def _curve(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["validation/bpd"] for line in lines if "validation/bpd" in line}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("train.validate_every=5", "data.held_out=0"), "no images are held out"),
        (
            ("train.validate_every=0",),
            "train.validate_every cannot be '0'; it takes an int in [1, ",
        ),
        (("train.validate_every=5", "train.validation_images=0"), "judges none"),
        (
            ("train.validate_on=training",),
            "train.validate_on cannot be 'training'; it takes 'validation' or 'test'",
        ),
        (("data.held_out=1500",), "cannot be held out"),
        (("train.stop_when=no_improvement()", "train.validate_on=test"), "choose nothing"),
    ],
)
def test_what_cannot_be_validated_is_refused_in_a_sentence(tmp_path, capsys, flags, sentence):
    status = main([*SMALL, *(f"--set={flag}" for flag in flags), f"--workdir={tmp_path / 'new'}"])
    assert status == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_validation_images_that_are_trained_on_are_refused(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 2, 2, 1)).astype(np.uint8)
    images[6] = images[1]
    np.savez(tmp_path / "images.npz", train=images[:8], test=images[8:])
    source = ArrayFile(str(tmp_path / "images.npz"))
    assert len(Data(source, held_out=1).load().validation) == 1
    with pytest.raises(UserError, match="1 of the 2 validation images are training images"):
        Data(source, held_out=2).load()


def test_a_single_image_has_no_standard_error():
    single = ValidationCurve(lambda ema: np.asarray([2.0]))
    assert single.validate(1, None) == {"validation/bpd": 2.0}
    assert math.isnan(single.points[0].standard_error)
