"""A metric writer that nothing in the program knows."""

from tests.strangers.walk import walk


def test_it_is_written_to_and_a_resume_doubles_no_point(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.metric_writer:digits_csv")
    lines = (walked.workdir / "curve.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines] == walked.steps == [1, 2, 3, 4]
    assert (walked.workdir / "tensorboard").is_dir()  # the others are written to as ever
