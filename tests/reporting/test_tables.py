"""One table, as people and programs read it."""

import csv
import io

import pytest

from diffusion_ode.reporting.tables import (
    FORMATS,
    Column,
    Quantity,
    Table,
    comma_separated,
    latex,
    markdown,
    terminal,
)

TABLE = Table(
    [
        Column("run", "run", ["vp_{0,1}", "sp"]),
        Column("ODE", "ode", [Quantity(1.94561, 0.0153, 0.0042), Quantity(2.0, 0.2)]),
        Column("less sp", "difference", [Quantity(-0.0544, 0.00123, signed=True), None]),
        Column("path", "model.path", ["VP", "Straight|"], ["VP()", "Straight(1)"]),
        Column("NFE", "nfe", ["32", "104"]),
        Column("steps", "steps", ["7", "7"], told_below=True),
        Column("bound", "bound", [None, None]),
    ],
    ["a note"],
)


def test_markdown_has_two_digits_of_every_error_and_tells_below_what_all_share():
    assert markdown(TABLE).splitlines() == [
        "| run | ODE | less sp | path | NFE |",
        "| --- | ---: | ---: | --- | ---: |",
        "| vp_{0,1} | 1.946 ± 0.015 (± 0.004) | -0.0544 ± 0.0012 | VP | 32 |",
        "| sp | 2.00 ± 0.20 |  | Straight\\| | 104 |",
        "",
        "a note",
        "",
        "all: steps 7",
    ]


def test_latex_escapes_names_and_sets_figures_in_formulas():
    lines = latex(TABLE).splitlines()
    assert lines[:2] == ["% a note", "% all: steps 7"]
    assert lines[2] == r"\begin{tabular}{lrrlr}"
    assert lines[6].startswith(r"vp\_\{0,1\} & $1.946 \pm 0.015 (\pm 0.004)$ & $-0.0544 \pm")
    assert lines[-1] == r"\end{tabular}"


def test_csv_has_every_column_at_full_precision():
    first, second = csv.DictReader(io.StringIO(comma_separated(TABLE)))
    assert first["ode"] == "1.94561"
    assert first["ode_se"] == "0.0153"
    assert first["ode_se_over_seeds"] == "0.0042"
    assert first["model.path"] == "VP()"
    assert second["difference"] == ""
    assert second["steps"] == "7"


def test_terminal_breaks_no_figure_and_goes_on_below_where_there_is_no_room(monkeypatch):
    monkeypatch.setenv("COLUMNS", "46")
    lines = terminal(TABLE).splitlines()
    assert max(map(len, lines)) <= 46
    assert sum(line.startswith("vp_{0,1}") for line in lines) == 2
    assert sum("1.946 ± 0.015 (± 0.004)" in line for line in lines) == 1


def test_what_has_diverged_is_a_number_of_three_digits():
    large = Quantity(123456789.0, 4.56e7, signed=True)
    assert large.words() == "+1.23e+08 ± 4.56e+07"
    written = latex(Table([Column("ODE", "ode", [large])]))
    assert r"$+1.23\times 10^{8} \pm 4.56\times 10^{7}$" in written
    assert Quantity(99999.0, 0.1).words() == "99999.00 ± 0.10"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("below", [True, False])
def test_what_files_say_has_an_end_and_moves_no_cursor(form, below):
    said = "x\x1b[31mRED\x07\r\n\x9b2J" + "a b " * 100_000
    table = Table(
        [Column(said, said, [said, "y" if not below else said], [said] * 2, below)], [said]
    )
    shown = FORMATS[form](table)
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    assert "RED" in shown and len(shown) < 100_000
