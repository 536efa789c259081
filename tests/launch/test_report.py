"""The report's command line."""

import csv
import json
import math
import os

import pytest
from PIL import Image

from launch.report import main
from tests.finished_run import config, finished_run


@pytest.fixture
def runs(tmp_path):
    for seed in (0, 1):
        document, curve = config(seed=seed), {10: 5.0, 20: 4.0 + seed}
        finished_run(tmp_path / f"vp-{seed}", [2.0, 2.5, 3.0], document=document, curve=curve)
    finished_run(tmp_path / "sp", [2.2, 2.6, 3.0], curve={10: 6.0, 20: 4.5}, experiment="digits_sp")
    return tmp_path


def test_table_names_what_differs_the_data_and_the_code(runs, capsys):
    assert main([str(runs), "--format=markdown", f"--baseline={runs / 'sp'}"]) == 0
    said = capsys.readouterr().out
    assert "| vp-{0,1} | digits_vp | 0, 1 | 2.50 ± 0.29 (± 0.00) | -0.100 ± 0.058 |" in said
    assert "| sp | digits_sp | 0 |" in said
    assert "3 test images of digits, fingerprint f1" in said
    assert "revision abcdef012" in said


def test_csv_tells_beside_a_figure_what_kind_it_is_and_why_it_is_no_code_length(runs, capsys):
    lost = {"code_length": False, "no_code_length_because": "1 of 3 images did not converge"}
    finished_run(runs / "lost", [2.0, 2.1, math.nan], document=config(peak=9.0), ode=lost)
    assert main([str(runs), "--format=csv", "--columns=run,ode"]) == 0
    *_, vp, last = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (last["run"], last["no_code_length"]) == ("lost", lost["no_code_length_because"])
    assert (vp["dequantization"], vp["num_importance"]) == ("uniform", "1")
    assert vp["no_code_length"] == ""


@pytest.mark.parametrize("content", ["null", "[]", '{"call": "a:B"}', '{"dict": {}}'])
def test_the_run_whose_config_is_none_is_named(content, runs, capsys):
    (runs / "sp" / "config.json").write_text(content)
    assert main([str(runs)]) == 2
    said = capsys.readouterr().err
    assert str(runs / "sp") in said and said.count("\n") == 1


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_figure_is_of_all_runs(runs, capsys, suffix):
    path = runs / "figures" / f"curves.{suffix}"
    assert main([str(runs), f"--figure={path}"]) == 0
    assert capsys.readouterr().err == f"{path}: train/bpd of 3 runs\n"
    if suffix == "png":
        assert Image.open(path).width > 1000
    else:
        assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["esc\x1b[2J", "m$\\frac$", os.fsdecode(b"sur\xff"), "_hidden"])
def test_figure_of_a_run_of_any_name(name, runs, capsys):
    (runs / "sp").rename(runs / name)
    figure = runs / "a\x1b.png"
    assert main([str(runs / name), f"--figure={figure}"]) == 0
    shown = capsys.readouterr()
    assert shown.err.endswith("a\\x1b.png: train/bpd of 1 run\n")
    assert all(sign.isprintable() or sign == "\n" for sign in shown.out + shown.err)


def test_runs_that_differ_in_too_many_settings_are_refused_soon(runs, capsys):
    many = {"call": "diffusion_ode.tasks.train:Train"}
    for number, run in enumerate(("sp", "vp-0")):
        fields = {f"field{k}": k + number for k in range(9_000)}
        (runs / run / "config.json").write_text(json.dumps({**many, "arguments": fields}))
        result = next((runs / run).glob("evaluations/*/result.json"))
        content = json.loads(result.read_text())
        result.write_text(json.dumps({**content, "config": {**many, "arguments": fields}}))
    asked = [str(runs / "sp"), str(runs / "vp-0")]
    assert main(asked) == 2
    assert "differ in 9000 settings, and a table has room for 200" in capsys.readouterr().err
    assert main([*asked, "--columns=run,ode"]) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [{"shape": [0, 0, 0]}, {"shape": [-4, -1, 2]}, {"shape": []}])
def test_images_of_no_size_are_refused(wrong, runs, capsys):
    result = next((runs / "sp").glob("evaluations/*/result.json"))
    content = json.loads(result.read_text())
    result.write_text(json.dumps({**content, "data": {**content["data"], **wrong}}))
    assert main([str(runs / "sp")]) == 2
    said = capsys.readouterr().err
    assert "images of the shape" in said and said.count("\n") == 1


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("lines", [[(10**10, 2.0), (10**400, 2.0)], [(1, 1e308), (2, -1e308)]])
def test_figure_of_what_no_picture_holds_is_refused(lines, runs, capsys, recwarn):
    (runs / "sp" / "metrics.jsonl").write_text(
        "".join(f'{{"step": {step}, "train/bpd": {value}}}\n' for step, value in lines)
    )
    assert main([str(runs / "sp"), f"--figure={runs / 'curves.png'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not recwarn.list  # which would be on the screen, too
    assert not (runs / "curves.png").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["gs://bucket/runs"], "gs://bucket/runs is in remote storage"),
        (["{runs}", "--format=word"], "There is no format 'word'"),
        (["{runs}", "--columns=run,bpd"], "There is no column 'bpd'; choose from"),
        (["{runs}", "--figure=curves.doc"], "end it in .png or .pdf"),
        (["{runs}", "--figure=curves.svg"], "end it in .png or .pdf"),
        (["{runs}", "--figure={runs}/nuw/folder/curves.png"], "there is no {runs}/nuw; name"),
        (["{runs}", "--curve=train/bpd"], "--figure=FILE"),
        (["{runs}", "--figure=c.png", "--curve=train/bdp"], "did you mean train/bpd?"),
        (["{runs}", "--baseline={runs}"], "is none of the evaluated runs"),
        ([], "WORKDIR; --help shows the flags"),
    ],
)
def test_wrong_request_meets_one_sentence(runs, capsys, flags, said):
    assert main([flag.format(runs=runs) for flag in flags]) == 2
    shown = capsys.readouterr()
    assert said.format(runs=runs) in shown.err
    assert not (runs / "nuw").exists()
    assert shown.err.count("\n") == 1
    assert not shown.out
