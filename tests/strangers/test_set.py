"""A stranger's objective and path enter by `--set`, and Python loads the run of trusted modules."""

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel
from tests.strangers.walk import walk


def test_pieces_of_strangers_are_set_by_their_dotted_names(tmp_path):
    walked = walk(
        tmp_path,
        "--exp=digits_vp",
        "--set=train.objective=tests.strangers.objective.SimpleLoss()",
        "--set=model.path=tests.strangers.path.PowerPath()",
    )
    assert walked.steps == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"trusted=\('tests\.strangers\.path',\)"):
        DiffusionModel.load(walked.workdir)
    model = DiffusionModel.load(walked.workdir, trusted=("tests.strangers", "tests.small_network"))
    assert type(model.model.path).__name__ == "PowerPath"
