"""Result files: whole or absent."""

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.result_files import MAX_BYTES, read_json, write_json


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


@pytest.mark.parametrize("piece", ["[],", "{},", "0,", "["])
def test_a_file_longer_than_any_that_is_written_is_refused(piece, tmp_path):
    (tmp_path / "a.json").write_text("[" + piece * (MAX_BYTES // len(piece) - 3) + "0]")
    tracemalloc.start()
    with pytest.raises(UserError, match="more than 2097152 items"):
        read_json(tmp_path / "a.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MAX_BYTES


def test_an_evaluation_of_which_no_image_has_converged_is_read(tmp_path):
    content = {"not_converged": list(range(1_281_167))}
    write_json(tmp_path / "result.json", content)
    assert read_json(tmp_path / "result.json") == content


def test_a_file_of_more_bytes_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(40 << 30)
    with pytest.raises(UserError, match=f"more than {MAX_BYTES} bytes"):
        read_json(tmp_path / "a.json")
