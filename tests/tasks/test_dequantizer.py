"""A dequantisation of one's own model is learned, and judges it."""

import pytest

from launch.run import main

SMALL = (
    *("--set=train.batch_size=4", "--set=train.num_steps=2", "--set=after_training=()"),
    *("--set=train.pictures_every=None", "--set=train.validation_images=0"),
    *("--set=evaluate.bound=None", "--set=evaluate.num_images=2", "--set=evaluate.error_images=0"),
)


# What a model may learn beside its network is frozen as the network is.
WITH_MORE = ("--set=model.base=gaussian_base()", "--set=model.prior=fitted_prior()")


@pytest.mark.long
@pytest.mark.parametrize(
    "of",
    [("--exp=digits_vp",), ("--exp=digits_vdm", *WITH_MORE), ("--exp=digits_vdm_by_pixel",)],
    ids=["network", "more", "by pixel"],
)
def test_it_is_learned_and_an_evaluation_takes_it_as_it_then_is(of, tmp_path, capsys):
    tiny = "--set=model.network=tests.small_network:SmallNetwork()"
    own = (*of, *SMALL, tiny, f"--workdir={tmp_path}")
    flow = ("--set=dequantizer.flow.features=8", "--set=dequantizer.flow.couplings=2")
    learn = (*own, *flow, "--task=dequantizer", "--set=dequantizer.train.batch_size=4")
    judge = (
        *(*own, "--task=evaluate"),
        f"--set=evaluate.ode.dequantization=learned_dequantization('{tmp_path}')",
    )
    assert main([*own]) == 0
    assert main([*judge]) == 2
    assert "holds no trained dequantisation" in capsys.readouterr().err
    assert main([*learn, "--set=dequantizer.train.num_steps=1"]) == 0
    assert main([*judge]) == 0
    assert "learned" in capsys.readouterr().out
    assert main([*learn, "--set=dequantizer.train.num_steps=2"]) == 0
    assert main([*judge]) == 2  # its rows are of another flow
    assert "under other settings (dequantization" in capsys.readouterr().err
