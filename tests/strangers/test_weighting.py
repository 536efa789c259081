"""A stranger's weighting."""

from tests.strangers.walk import walk


def test_a_strangers_weighting_goes_all_the_way_and_the_screen_says_no_bound(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.weighting:digits_above_noise")
    assert walked.steps == [1, 2, 3, 4]
    assert "AboveNoise" in (walked.workdir / "config.json").read_text()
    assert "under AboveNoise, so no bound" in (walked.workdir / "log.txt").read_text()
