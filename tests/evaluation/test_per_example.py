"""The table of an evaluation: filled by passes, and gone on with after a kill."""

import math

import numpy as np
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.evaluation import per_example
from diffusion_ode.evaluation.per_example import PerExampleTable, read_table


def test_every_pass_fills_its_own_columns_and_the_file_always_has_them(tmp_path):
    path = tmp_path / "new" / "per_example.csv"
    with PerExampleTable(("bpd", "nfe"), path) as table:
        table.append(3, nfe=40)
        table.append(1, nfe=np.int64(46))
        table.append(3, bpd=1 / 3)
        assert path.read_text() == "index,bpd,nfe\n3,,40\n1,,46\n3,0.3333333333333333,\n"
        assert (table.missing(["nfe"], 4), table.missing(["bpd", "nfe"], 4)) == ([0, 2], [0, 1, 2])
    with PerExampleTable(("bpd", "nfe"), path) as table:
        table.append(1, bpd=np.float32(0.1))
        table.join()
        table.append(2, bpd=math.nan, nfe=1)
        found = table.columns_of(4)
    lines = ["index,bpd,nfe", "3,0.3333333333333333,40", "1,0.10000000149011612,46", "2,nan,1"]
    assert path.read_text().splitlines() == lines
    np.testing.assert_array_equal(found["index"], [1, 2, 3])
    np.testing.assert_array_equal(found["bpd"], [np.float32(0.1), math.nan, 1 / 3])
    np.testing.assert_array_equal(found["nfe"], [46, 1, 40])
    for name, column in read_table(path).items():
        np.testing.assert_array_equal(column, found[name])


def test_what_is_blank_is_not_a_number_and_other_examples_are_left_out():
    table = PerExampleTable(("bpd", "nfe"))
    table.append(0, nfe=40)
    table.append(7, nfe=40, bpd=2.0)
    found = table.columns_of(5)
    assert found["index"].tolist() == [0]
    assert math.isnan(found["bpd"][0])


@pytest.mark.parametrize("cut", range(1, 27))
def test_half_a_line_from_a_kill_is_dropped(tmp_path, cut):
    path = tmp_path / "per_example.csv"
    whole = b"index,bpd\n0,1.5\n1,2.25\n"
    path.write_bytes(whole[:-cut] if cut < len(whole) else b"")
    with PerExampleTable(("bpd",), path) as table:
        for index in table.missing(["bpd"], 2):
            table.append(index, bpd=(1.5, 2.25)[index])
    assert path.read_bytes() == whole


def test_other_columns_are_refused_and_the_file_left_alone(tmp_path):
    path = tmp_path / "per_example.csv"
    path.write_text("index,bpd\n0,1.5\n")
    with pytest.raises(UserError, match="'index,bpd', but this evaluation writes 'index,nats'"):
        PerExampleTable(("nats",), path)
    assert path.read_text() == "index,bpd\n0,1.5\n"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    "content", [b"much work", b"index,bpd\r0,1.5\r", b"a\nb", b"index,bpd,nfe"]
)
def test_what_is_no_such_table_is_not_cut_short(content, linked, tmp_path):
    path = tmp_path / "per_example.csv"
    place = tmp_path / "precious" if linked else path
    place.write_bytes(content)
    if linked:
        path.symlink_to(place)
    said = "is a link, which is not followed" if linked else "has the columns .* but this eval"
    with pytest.raises(UserError, match=said):
        PerExampleTable(("bpd",), path)
    assert place.read_bytes() == content


@pytest.mark.parametrize("line", ["hello", "0,1,2", "0,x", "-1,2", "1_0,2", "\u0663,2", "1.0,2"])
def test_a_line_in_the_middle_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "per_example.csv"
    path.write_text(f"index,bpd\n0,1.5\n{line}\n1,2\n")
    for read in (lambda: PerExampleTable(("bpd",), path), lambda: read_table(path)):
        with pytest.raises(UserError, match=rf"Line 3 .*'{line}'"):
            read()


def test_no_cell_is_filled_twice(tmp_path):
    with PerExampleTable(("bpd",), tmp_path / "a.csv") as table:
        table.append(0, bpd=1.0)
        with pytest.raises(ValueError, match="example 0"):
            table.append(0, bpd=2.0)
        with pytest.raises(ValueError, match="nats"):
            table.append(1, nats=2.0)


def test_an_empty_table_has_its_columns():
    found = PerExampleTable(("bpd", "nfe")).columns_of(3)
    assert {name: column.shape for name, column in found.items()} == dict.fromkeys(
        ("index", "bpd", "nfe"), (0,)
    )


def test_a_finished_table_is_read_at_once_as_line_by_line(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    lines = ["3,,,40", "0,-inf,1e-300,", "2,nan,0.1,7", "1,,,", "9007199254740991,,1,1"]
    path.write_text("\n".join(["index,a,b,c", *lines, ""]))
    with monkeypatch.context() as patch:
        patch.setattr(per_example, "_lines", lambda *_: pytest.fail("it was read line by line"))
        at_once = read_table(path)
    monkeypatch.setattr(per_example, "_joined", lambda *_: None)
    for name, column in read_table(path).items():
        np.testing.assert_array_equal(at_once[name], column, strict=True)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["index,a", "0.5,1"], "Line 2 of .*'0.5,1'"),
        (["index,a", "0,1", "0,2"], "example 0 has"),
        (["index,a", "0,1,", "2"], "Line 2 of .*'0,1,'"),
        (["index,a", "0,1", "", "2,1"], "Line 3 of .*''"),
        (["index,a", "-1,1", "-1,2"], "Line 2 of .*'-1,1'"),
        (["index,a", *["0,1"] * 20], "more than 9 lines"),
        (["index,a,b", "0" + "," * 30], "more than 30 cells"),
        (["index" + "a" * 4096, "0,1"], "its first line has 4096 bytes or more"),
    ],
)
def test_what_is_no_finished_table_is_still_said(lines, says, tmp_path, monkeypatch):
    monkeypatch.setattr(per_example, "MAX_LINES", 9)
    monkeypatch.setattr(per_example, "MAX_CELLS", 30)
    (tmp_path / "a.csv").write_text("\n".join([*lines, ""]))
    with pytest.raises(UserError, match=says):
        read_table(tmp_path / "a.csv")


def test_a_file_that_is_removed_meanwhile_ends_the_evaluation(tmp_path):
    path = tmp_path / "per_example.csv"
    with PerExampleTable(("bpd",), path) as table:
        table.append(0, bpd=1.0)
        path.unlink()
        with pytest.raises(UserError, match="has been removed meanwhile: run the same command"):
            table.append(1, bpd=1.0)
