"""A dequantisation of one's own model is learned, and judges it."""

import pytest

from launch.run import main

SMALL = (
    *("--exp=digits_vp", "--set=model.network.features=32", "--set=model.network.blocks=1"),
    *("--set=train.batch_size=4", "--set=train.num_steps=2", "--set=after_training=()"),
    *("--set=train.pictures_every=None", "--set=train.validation_images=0"),
    *("--set=evaluate.bound=None", "--set=evaluate.num_images=2", "--set=evaluate.error_images=0"),
)


@pytest.mark.long
def test_it_is_learned_and_an_evaluation_takes_it_as_it_then_is(tmp_path, capsys):
    own = (*SMALL, f"--workdir={tmp_path}")
    learn = (*own, "--task=dequantizer", "--set=dequantizer.train.batch_size=4")
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
