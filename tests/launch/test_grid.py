"""The points of a sweep: all combinations, named, and refused in a sentence before any runs."""

import fiddle as fdl
import pytest

from diffusion_ode.errors import UserError
from experiments import registry
from launch.grid import points, read_axis

PEAK = "train.optimizer.learning_rate.peak"


def named(*grid, experiments=("digits_vp",), settings=()):
    return [
        point.name for point in points(experiments, [read_axis(text) for text in grid], settings)
    ]


def test_every_combination_is_a_point_named_by_its_values():
    found = points(["digits_vp"], [read_axis(f"{PEAK}=1e-3,2e-3"), read_axis("train.seed=0,1")], ())
    assert [point.name for point in found] == [
        "peak=0.001,seed=0",
        "peak=0.001,seed=1",
        "peak=0.002,seed=0",
        "peak=0.002,seed=1",
    ]
    assert found[2].settings == (f"{PEAK}=2e-3", "train.seed=0")
    assert found[0].tasks == ("train", "evaluate", "sample")
    rate = found[2].document["arguments"]["train"]["arguments"]["optimizer"]["arguments"]
    assert rate["learning_rate"]["arguments"]["peak"] == 2e-3


def test_what_all_points_share_is_made_once_and_no_config_is_written_down(monkeypatch):
    made, make = [], registry.configuration_of
    monkeypatch.setattr(registry, "configuration_of", lambda e: (made.append(e.name), make(e))[1])
    monkeypatch.setattr(fdl.Config, "__repr__", lambda _: pytest.fail("written down"))
    names = named(
        "train.seed=0,1,2",
        experiments=("digits_vp", "digits_sp"),
        settings=("train.num_steps=7",),
    )
    assert len(names) == 6
    assert made == ["digits_vp", "digits_sp"]


def test_commas_within_brackets_and_quotes_divide_nothing():
    text = "model.path=straight_path(),variance_preserving()"
    assert named(text) == ["path=StraightPath", "path=VariancePreserving"]
    assert read_axis("a=(1, 2),'b,c',f(d=[3,4])").values == ("(1, 2)", "'b,c'", "f(d=[3,4])")


def test_several_experiments_are_an_axis_and_fields_of_one_name_are_told_apart():
    both = ("digits_vp", "digits_sp")
    assert named("train.seed=3", experiments=both) == ["digits_vp,seed=3", "digits_sp,seed=3"]
    assert named(experiments=both) == ["digits_vp", "digits_sp"]
    names = named("train.seed=0", "evaluate.seed=0,1")
    assert names == ["train.seed=0,evaluate.seed=0", "train.seed=0,evaluate.seed=1"]


@pytest.mark.parametrize(
    ("grid", "settings", "said"),
    [
        (["train.seed"], (), "is not PATH=VALUE,VALUE"),
        (["train.seed=0,,1"], (), "is not PATH=VALUE,VALUE"),
        (["train.seed="], (), "is not PATH=VALUE,VALUE"),
        (["model.path=straight_path("], (), r"lacks its \)\."),
        (["model.path=straight_path]"], (), r"has a \] too many"),
        (["train.sed=0,1"], (), "There is no field 'train.sed'; did you mean train.seed"),
        (["train.seed=0,x"], (), "^train.seed cannot be 'x'; it takes an int in"),
        (["train.seed=0", "evaluate.seed=0,-1"], (), "^At .* evaluate.seed=-1: evaluate.seed can"),
        (["train.seed=0,0"], (), "has 0 twice: give it once"),
        ([f"{PEAK}=1e-3,0.001"], (), "the same point twice, as .*=1e-3 and as .*=0.001: leave"),
        (["train.seed=0", "train.seed=1"], (), "--grid names train.seed twice"),
        (
            ["train.seed=0"],
            ("train.seed=1",),
            "train.seed is set by both --set and --grid",
        ),
        (["model.network.blocks=1,2", "model.network=dit()"], (), "is a part of model.network"),
        (["data.source=digits(),fashion_mnist()"], (), r"model is for images of shape \(8, 8, 1\)"),
        (
            [f"train.seed={','.join(map(str, range(10_001)))}"],
            (),
            "10,001 points, more than 10,000",
        ),
    ],
)
def test_wrong_grid_is_refused_in_a_sentence(grid, settings, said):
    with pytest.raises(UserError, match=said):
        named(*grid, settings=settings)
