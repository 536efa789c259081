"""Results with one node replaced are compared and reported, or refused in one sentence."""

import copy
import json

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.tasks.compare import Compare
from launch.report import main
from tests.configs.test_mutations import places
from tests.finished_run import finished_run
from tests.tasks.conftest import experiment, run_in

MUTANTS = (None, True, -1, 0.5, float("nan"), 10**400, "x", [], [1], {}, {"call": "x:y"})


@pytest.fixture
def pair(tmp_path):
    return [finished_run(tmp_path / name, [2.0, 2.5, 3.0], curve={10: 5.0}) for name in "ab"]


@pytest.mark.parametrize("name", ["evaluations/7-uniform-k1/result.json", "run.json"])
def test_files_with_one_node_replaced_are_read_or_refused_in_a_sentence(pair, name, capsys):
    here, there = pair
    sound, refused = json.loads((here / name).read_text()), 0
    for number, path in enumerate(places(sound)):
        for mutant in MUTANTS[number % 3 :: 3]:
            changed = {"all": copy.deepcopy(sound)}
            owner, ways = changed, ("all", *path)
            for key in ways[:-1]:
                owner = owner[key]
            owner[ways[-1]] = mutant
            (here / name).write_text(json.dumps(changed["all"]))
            try:
                Compare().run(run_in(here, experiment(), **{"with": str(there)}))
            except UserError as refusal:
                refused += 1
                assert "\n" not in str(refusal)
            if main([str(here), str(there)]) != 0:
                refused += 1
                assert len(capsys.readouterr().err.splitlines()) == 1
    assert refused > 10 or name == "run.json"
