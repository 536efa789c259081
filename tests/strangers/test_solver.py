"""A solver that nothing in the program knows, for likelihoods and for samples."""

import numpy as np

from launch.run import main
from tests.strangers.solver import TwoStages
from tests.strangers.walk import walk

EXPERIMENT = "--exp=tests.strangers.solver:digits_two_stages"


def test_it_judges_and_draws(tmp_path):
    walked = walk(tmp_path, EXPERIMENT, "--set=evaluate.ode.solver.share=0.5")
    solver = walked.result["config"]["arguments"]["evaluate"]["arguments"]["ode"]["arguments"]
    assert solver["solver"] == {
        "call": "tests.strangers.solver:TwoStages",
        "arguments": {"share": 0.5},
    }
    assert walked.result["ode"]["nfe_mean"] == 8  # 4 steps
    assert np.all(np.load(walked.workdir / "samples/4/samples.npz")["nfe"] == 8)


def test_steps_by_tolerance_are_refused_in_one_sentence(capsys):
    assert main([EXPERIMENT, "--describe"]) == 2
    said = capsys.readouterr().err
    assert f"{TwoStages().name} has no error estimate, which PIController needs" in said
    assert len(said.splitlines()) == 1
