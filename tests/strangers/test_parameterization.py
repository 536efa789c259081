"""A parameterisation that nothing in the program knows."""

from tests.strangers.walk import walk


def test_it_is_trained_resumed_evaluated_and_sampled(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.parameterization:digits_score")
    assert walked.steps == [1, 2, 3, 4]
    assert walked.result["bound"]["bpd"] > 0
