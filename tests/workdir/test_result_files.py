"""Result files: whole or absent; tables that can be gone on with."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.workdir.result_files import PerExampleFile, read_json, write_json


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
    with pytest.raises(UserError, match="no JSON"):
        read_json(tmp_path / "a.json")


def test_a_table_grows_and_is_gone_on_with(tmp_path):
    path = tmp_path / "per_example.csv"
    with PerExampleFile(path, ("bpd", "nfe")) as file:
        assert file.done == set()
        file.append([3, 1], bpd=[1 / 3, np.float32(0.1)], nfe=np.array([40, 46]))
        lines = path.read_text().splitlines()
        assert lines == ["index,bpd,nfe", "3,0.3333333333333333,40", "1,0.10000000149011612,46"]
    with PerExampleFile(path, ("bpd", "nfe")) as file:
        assert file.done == {1, 3}
        file.append(np.array([2]), nfe=[1], bpd=[math.nan])
        table = file.table()
    np.testing.assert_array_equal(table["index"], [1, 2, 3])
    np.testing.assert_array_equal(table["bpd"], [np.float32(0.1), math.nan, 1 / 3])
    np.testing.assert_array_equal(table["nfe"], [46, 1, 40])


@pytest.mark.parametrize("cut", range(1, 27))
def test_half_a_line_from_a_kill_is_dropped(tmp_path, cut):
    path = tmp_path / "per_example.csv"
    whole = b"index,bpd\n0,1.5\n1,2.25\n"
    path.write_bytes(whole[:-cut] if cut < len(whole) else b"")
    with PerExampleFile(path, ("bpd",)) as file:
        for index, bpd in ((0, 1.5), (1, 2.25)):
            if index not in file.done:
                file.append([index], bpd=[bpd])
    assert path.read_bytes() == whole


def test_other_columns_are_refused_and_the_file_left_alone(tmp_path):
    path = tmp_path / "per_example.csv"
    path.write_text("index,bpd\n0,1.5\n")
    with pytest.raises(UserError, match="index,bpd, but this evaluation writes index,nats"):
        PerExampleFile(path, ("nats",))
    assert path.read_text() == "index,bpd\n0,1.5\n"


def test_a_line_in_the_middle_that_is_no_row_is_named(tmp_path):
    path = tmp_path / "per_example.csv"
    path.write_text("index,bpd\n0,1.5\nhello\n1,2\n")
    with pytest.raises(UserError, match=r"Line 3 .*'hello'"):
        PerExampleFile(path, ("bpd",))


def test_no_example_gets_two_rows(tmp_path):
    with PerExampleFile(tmp_path / "a.csv", ("bpd",)) as file:
        file.append([0], bpd=[1.0])
        with pytest.raises(ValueError, match="example 0"):
            file.append([0], bpd=[2.0])
        with pytest.raises(ValueError, match="columns"):
            file.append([1], nats=[2.0])


def test_an_empty_table_has_its_columns(tmp_path):
    with PerExampleFile(tmp_path / "a.csv", ("bpd", "nfe")) as file:
        table = file.table()
    assert {name: column.shape for name, column in table.items()} == {
        "index": (0,),
        "bpd": (0,),
        "nfe": (0,),
    }
    assert json.dumps(table["index"].tolist()) == "[]"
