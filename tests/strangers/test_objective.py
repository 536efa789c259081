"""A stranger's objective, of the protocol's members alone, is trained with."""

from tests.strangers.walk import walk


def test_a_strangers_objective_goes_all_the_way_and_teaches_a_learning_sampler_nothing(tmp_path):
    times = "--set=train.objective.times=adaptive_times(bins=4)"
    walked = walk(tmp_path, "--exp=tests.strangers.objective:digits_simple_loss", times)
    assert walked.steps == [1, 2, 3, 4]
