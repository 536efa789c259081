"""A stranger's path, schedule, time sampler and dequantisation, all at once."""

import fiddle as fdl

from experiments.registry import experiment
from tests.strangers.dequantization import digits_triangular
from tests.strangers.path import digits_power_path
from tests.strangers.schedule import digits_slow_middle
from tests.strangers.time_sampler import digits_logistic_times
from tests.strangers.walk import walk


@experiment(parent="digits_vp")
def digits_of_strangers(config: fdl.Config) -> fdl.Config:
    """Pieces of four strangers go together."""
    for change in (digits_power_path, digits_slow_middle, digits_logistic_times, digits_triangular):
        config = change(config)
    return config


def test_a_strangers_path_schedule_times_and_dequantisation_go_all_the_way(tmp_path):
    walked = walk(tmp_path, "--exp=tests.strangers.test_diffusion:digits_of_strangers")
    assert walked.steps == [1, 2, 3, 4]
    written = (walked.workdir / "config.json").read_text()
    for piece in ("PowerPath", "SlowMiddle", "LogisticTimes", "Triangular"):
        assert piece in written
