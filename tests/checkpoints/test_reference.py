"""Published checkpoints: what is said of files that are something else."""

import numpy as np
import pytest
from flax import serialization

from diffusion_ode.checkpoints.reference import read_reference
from diffusion_ode.errors import UserError

LEAF = np.zeros(1, np.float32)
MANY = {"\x1b[2J" + "n" * 200: LEAF, **{f"name_{k}": LEAF for k in range(10_000)}}


@pytest.mark.parametrize(
    ("tree", "more"),
    [
        (MANY, 10_001 - 5),
        ({"step": 1, "params": MANY, "ema_params": MANY}, 10_001 - 5),
    ],
    ids=["beside the parameters", "in the parameters"],
)
def test_file_with_many_wrong_names_shows_a_few_and_how_many_more(tree, more, tmp_path):
    file = tmp_path / "ckpt-1.flax"
    file.write_bytes(serialization.msgpack_serialize(tree))
    with pytest.raises(UserError) as refused:
        read_reference(file)
    said = str(refused.value)
    assert f" and {more} more" in said and said.count("name_") == 4
    assert said.isprintable() and len(said) < 500
