"""Result files: whole or absent."""

import math
from pathlib import Path

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.result_files import read_json, write_json


def test_a_json_file_reads_back(tmp_path):
    path = tmp_path / "new" / "result.json"
    content = {"bpd": np.float32(2.5), "nfe": np.arange(2), "path": Path("a"), "n": None}
    write_json(path, content)
    assert read_json(path) == {"bpd": 2.5, "nfe": [0, 1], "path": "a", "n": None}
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize("content", [math.nan, {"a": object()}])
def test_what_cannot_be_said_in_json_leaves_the_old_file(tmp_path, content):
    path = tmp_path / "result.json"
    write_json(path, 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(path, content)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("result.json", "1\n")]


def test_a_missing_or_broken_json_file_is_explained(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_json(tmp_path / "a.json")
