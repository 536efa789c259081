"""A learned schedule by `--set`: it trains, resumes bit for bit, and is what is judged."""

import jax
import numpy as np
import pytest

from diffusion_ode.diffusion.learned_schedule import TrainedSchedule
from diffusion_ode.inference.diffusion_model import DiffusionModel
from launch.run import main
from tests.strangers.walk import _QUICK, TINY, walk

LEARNED = (
    "--exp=digits_vp",
    "--set=model.schedule=learned_monotone_schedule(gamma_0=-7.876, features=8)",
    "--set=train.objective.times=uniform_times()",
    "--set=train.validation_images=2",
)


def test_a_learned_schedule_goes_all_the_way_and_resumes_bit_for_bit(tmp_path):
    walked = walk(tmp_path, *LEARNED)
    settings = [f"--set={setting}" for setting in (*_QUICK, *TINY, "train.num_steps=4")]
    assert main([f"--workdir={tmp_path / 'whole'}", *settings, *LEARNED]) == 0
    resumed, whole = (
        DiffusionModel.load(folder, trusted=("tests.small_network",))
        for folder in (walked.workdir, tmp_path / "whole")
    )
    assert jax.tree.structure(resumed.parameters) == jax.tree.structure(whole.parameters)
    for one, other in zip(
        *(map(np.asarray, jax.tree.leaves(m.parameters)) for m in (resumed, whole)), strict=True
    ):
        assert one.tobytes() == other.tobytes()

    schedule = resumed.model.schedule
    assert isinstance(schedule, TrainedSchedule) and schedule == whole.model.schedule
    assert schedule.gamma_0 != -7.876, "its end is learned"
    logged = (walked.workdir / "metrics.jsonl").read_text()
    assert "train/reconstruction_bpd" in logged and "train/prior_bpd" in logged

    trained = [f"--workdir={walked.workdir}", *settings, *LEARNED]
    assert main([*trained, "--task=compress", "--set=compress.num_images=2"]) == 0
    ancestral = "--set=sample.sampler=ancestral_sampler(steps=3)"
    assert main([*trained, "--task=sample", ancestral, "--set=sample.num_images=2"]) == 0


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.objective.weighting=sigmoid_weighting()", "SigmoidWeighting is not: give"),
        ("train.objective.times=importance_sampled_times()", "ImportanceSampledTimes draws others"),
        ("train.objective.times=normal_times()", "NormalTimes draws others"),
        ("train.objective.times=discrete_times(100)", "give model.schedule.by_variance=False"),
        (
            "train.objective=second_order_flow_matching(times=uniform_times())",
            "SecondOrderFlowMatching adds another term: give model.schedule.learn_ends=False",
        ),
        (
            "model.schedule=learned_scalar_schedule();"
            " train.objective=second_order_flow_matching()",
            "another term: give model.schedule=linear_schedule(gamma_0=-13.3, gamma_1=5.0), or",
        ),
        (
            "model.schedule=learned_scalar_schedule(gamma_0=-7.876, learn_ends=False)",
            "nothing to learn: give model.schedule=linear_schedule(gamma_0=-7.876, gamma_1=5.0),",
        ),
    ],
)
def test_what_it_cannot_be_learned_by_is_refused_in_one_sentence(
    tmp_path, capsys, setting, sentence
):
    settings = [f"--set={each.strip()}" for each in setting.split(";")]
    assert main([f"--workdir={tmp_path}", *LEARNED, "--describe", *settings]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said and "Traceback" not in said
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ("model.schedule.by_variance=False", "train.objective.times=discrete_times(100)"),
        ("model.schedule=learned_scalar_schedule()", "train.objective.times=discrete_times(100)"),
        ("model.schedule=learned_scalar_schedule()", "train.objective.times=adaptive_times()"),
        (
            "model.schedule.learn_ends=False",
            "train.objective=second_order_flow_matching(times=uniform_times())",
        ),
    ],
)
def test_what_it_can_be_learned_by_is_built(capsys, settings):
    assert main([*LEARNED, "--describe", *(f"--set={setting}" for setting in settings)]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("where", ["train.objective", "train.validation_bound", "evaluate.bound"])
@pytest.mark.parametrize("times", ["mean=40.0", "mean=-60.0, deviation=1.5", "deviation=1e6"])
def test_normal_times_of_which_nothing_lies_between_the_ends_are_refused(capsys, where, times):
    """They would be NaN, or all at an end."""
    assert (
        main(["--exp=digits_vp", "--describe", f"--set={where}.times=normal_times({times})"]) == 2
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "of the normal within the schedule's [-7.876, 5.0]: give a mean between these" in said
