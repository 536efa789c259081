"""The evaluation task: every test image once, and figures that say what they are."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from diffusion_ode.diffusion.dequantization import UniformDequantization
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.in_words import in_words
from diffusion_ode.evaluation.ode_pass import OdePass
from diffusion_ode.evaluation.reference_quirks import (
    ReferenceQuirks,
    UnscaledUniformDequantization,
)
from diffusion_ode.evaluation.result import code_length
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.reporting.quantities import some_images
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.hutch_plus_plus import HutchPlusPlus
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.probes import Orthogonal
from diffusion_ode.tasks.compare import Compare
from diffusion_ode.tasks.evaluate import Evaluate
from diffusion_ode.workdir.lock import workdir_lock
from tests.tasks.conftest import LOOSE, experiment, run_in

NAME = "2-truncated_normal-k1-first6"


@pytest.fixture(scope="module")
def evaluated(trained_workdir):
    made = experiment()
    made.evaluate.run(run_in(trained_workdir, made))
    return trained_workdir / "evaluations" / NAME


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def rows_of(folder):
    with (folder / "per_example.csv").open() as file:
        return list(csv.DictReader(file))


def test_names_that_scripts_rely_on_stay(evaluated):
    result = result_of(evaluated)
    assert {"name", "split", "fingerprint", "num_images"} <= result["data"].keys()
    assert {
        "bpd",
        "standard_error",
        "dequantization",
        "num_importance",
        "nfe_mean",
        "not_converged",
    } <= result["ode"].keys()
    assert {"bpd", "standard_error", "recon", "prior", "diffusion"} <= result["bound"].keys()
    assert {"checkpoint", "config", "seconds", "command"} <= result.keys()


def test_speed_is_without_compiling(evaluated):
    result = result_of(evaluated)
    running = result["seconds"] - result["compilation_seconds"]
    assert 0.0 < result["compilation_seconds"] < result["seconds"]
    assert result["images_per_second"] > 6 / running  # the standard error's parts are not counted


def test_every_image_has_one_row_and_the_mean_is_theirs(evaluated):
    rows = rows_of(evaluated)
    assert sorted(int(row["index"]) for row in rows) == list(range(6))
    bpd = [-float(row["log_likelihood"]) / (64 * np.log(2)) for row in rows]
    result = result_of(evaluated)
    assert result["ode"]["bpd"] == pytest.approx(np.mean(bpd))
    assert result["ode"]["standard_error"] == pytest.approx(np.std(bpd, ddof=1) / np.sqrt(6))
    terms = sum(result["bound"][name] for name in ("recon", "prior", "diffusion"))
    assert result["bound"]["bpd"] == pytest.approx(terms)


def test_standard_error_comes_in_parts(evaluated):
    ode = result_of(evaluated)["ode"]
    parts = ode["standard_error_parts"]
    assert {part["num_images"] for part in parts.values()} == {3}
    # From three images a part may well be unresolved; what is resolved is not nothing.
    assert all(part["value"] is None or part["value"] > 0.0 for part in parts.values())
    # The same noise and probes at a tenth of the tolerance: only the solver differs.
    solver = ode["solver_error"]
    assert abs(solver["mean"]) <= solver["rms"] < 0.05
    assert solver["standard_error"] > 0.0
    assert solver["num_images"] == 3


def test_interrupted_evaluation_goes_on_where_it_was(evaluated, workdir):
    folder = workdir / "evaluations" / NAME
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text((evaluated / "settings.json").read_text())
    lines = (evaluated / "per_example.csv").read_text().splitlines(keepends=True)
    (folder / "per_example.csv").write_text("".join(lines[:4]) + lines[4][:7])  # a half line
    made = experiment()
    made.evaluate.run(run_in(workdir, made))

    whole, again = ({r["index"]: r for r in rows_of(f)} for f in (evaluated, folder))
    assert again.keys() == whole.keys()
    assert again == whole  # to the last bit, though fewer images than lanes were left
    assert (folder / "per_example.csv").read_text().startswith("".join(lines[:4]))


def test_finished_evaluation_states_no_speed_and_takes_other_error_images(evaluated, workdir):
    folder = workdir / "evaluations" / NAME
    folder.mkdir(parents=True)
    for name in ("settings.json", "per_example.csv"):
        (folder / name).write_text((evaluated / name).read_text())
    made = experiment(error_images=0)
    outcome = made.evaluate.run(run_in(workdir, made))
    assert result_of(folder)["images_per_second"] is None
    assert "speed" not in dict(outcome.rows)
    assert (folder / "per_example.csv").read_text() == (evaluated / "per_example.csv").read_text()


def test_finished_evaluation_run_again_loses_no_part_and_no_speed(evaluated, workdir):
    folder = workdir / "evaluations" / NAME
    folder.mkdir(parents=True)
    for name in ("settings.json", "per_example.csv", "result.json"):
        (folder / name).write_text((evaluated / name).read_text())
    made = experiment(error_images=0)
    made.evaluate.run(run_in(workdir, made))
    before, after = result_of(evaluated), result_of(folder)
    for key in ("standard_error_parts", "solver_error", "error_images", "bpd"):
        assert after["ode"][key] == before["ode"][key]
    for key in ("seconds", "images_per_second", "compilation_seconds"):
        assert after[key] == before[key]


def test_probes_that_there_cannot_be_are_refused_before_anything_is_written(workdir):
    many = OdeLikelihood(divergence=HutchinsonTrace(65, Orthogonal()), controller=LOOSE, lanes=4)
    made = experiment(ode=many)
    with pytest.raises(UserError, match="65 orthogonal probes are asked for"):
        made.evaluate.run(run_in(workdir, made))
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"]


def test_two_evaluations_never_write_one_folder_at_once(workdir):
    made = experiment()
    refused = pytest.raises(UserError, match=r"`python first`.*name of its own by --set eval")
    with workdir_lock(workdir / "evaluations" / NAME, "python first"), refused:
        made.evaluate.run(run_in(workdir, made))
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"]


def test_evaluation_under_other_settings_wants_another_name(evaluated, trained_workdir):
    made = experiment(ode=OdeLikelihood(controller=PIController(), lanes=4))
    with pytest.raises(UserError, match="give this one a name of its own"):
        made.evaluate.run(run_in(trained_workdir, made))


def test_damaged_settings_are_no_traceback(workdir):
    (workdir / "evaluations" / NAME).mkdir(parents=True)
    (workdir / "evaluations" / NAME / "settings.json").write_text("[]")
    (workdir / "evaluations" / NAME / "per_example.csv").write_text("index\n0\n")
    made = experiment()
    with pytest.raises(UserError, match=r"settings\.json is damaged"):
        made.evaluate.run(run_in(workdir, made))


def test_bound_is_kept_where_no_solve_converges_and_nothing_is_solved_again(workdir, capsys):
    stingy = PIController(1e-2, 1e-2, 1e-2, max_steps=3)
    made = experiment(ode=OdeLikelihood(controller=stingy, lanes=4))
    outcome = made.evaluate.run(run_in(workdir, made))
    result = result_of(workdir / "evaluations" / NAME)
    assert result["ode"]["bpd"] is None
    assert result["ode"]["not_converged"] == list(range(6))
    assert 0.0 < result["bound"]["bpd"] < 20.0
    rows = dict(outcome.rows)
    assert rows["ODE, truncated normal, K = 1"] == "unknown: no image's solve converged"
    assert rows["NOT CONVERGED"] == some_images(range(6))
    assert "again with" not in capsys.readouterr().out


def test_solvers_error_that_was_not_found_is_said_to_be_unknown():
    words = rows_in_words(**verdict(OdeLikelihood(), 1), solver_error=None, error_images=32)
    label = "  error of the solver"
    assert dict(words)[label] == "unknown: none of 32 images converged"
    words = rows_in_words(**verdict(OdeLikelihood(), 1), solver_error=None, error_images=0)
    assert label not in dict(words)


def test_images_that_do_not_converge_have_no_likelihood_and_the_mean_is_of_the_others(
    evaluated, workdir
):
    # Two evaluations size the first step, then each attempt takes one: some run out of attempts.
    most = max(float(row["nfe"]) for row in rows_of(evaluated))
    stingy = dataclasses.replace(LOOSE, max_steps=int(most) - 3)
    made = experiment(ode=OdeLikelihood(controller=stingy, lanes=4), error_images=0)
    outcome = made.evaluate.run(run_in(workdir, made))
    folder = workdir / "evaluations" / NAME
    values = {int(row["index"]): float(row["log_likelihood"]) for row in rows_of(folder)}
    lost = [index for index in range(6) if np.isnan(values[index])]
    assert 0 < len(lost) < 6
    ode = result_of(folder)["ode"]
    assert ode["not_converged"] == lost
    assert ode["num_images"] == 6 - len(lost)
    assert ode["bpd"] == pytest.approx(-np.nanmean(list(values.values())) / (64 * np.log(2)))
    rows = dict(outcome.rows)
    assert rows["NOT CONVERGED"] == some_images(lost)
    kept = f"{6 - len(lost)} image" + "s" * (len(lost) < 5)
    assert kept in rows["ODE, truncated normal, K = 1"]

    before = (folder / "per_example.csv").read_text()
    made.evaluate.run(run_in(workdir, made))
    assert (folder / "per_example.csv").read_text() == before  # they are done


def rows_in_words(**ode):
    """The table of a result whose figures are as wide as they get."""
    solver = {"mean": -1e-4, "standard_error": 1e-4, "rms": 0.01, "num_images": 32}
    part = {"value": 0.0102, "standard_error": 0.0012, "num_images": 32}
    figure = {"bpd": 2.4216, "standard_error": 0.0123}
    unresolved = {"value": None, "standard_error": None, "num_images": 32}
    result = {
        "data": {
            "num_images": 50_000,
            "split_images": 50_000,
            "split": "test",
            "name": "cifar10",
            "fingerprint": "aa3dedf3",
        },
        "ode": {
            **figure,
            "dequantization": "truncated_normal",
            "num_importance": 20,
            "num_images": 50_000,
            "trace": "1 probe",
            "standard_error_parts": {"images": unresolved, "dequantization": part, "probes": part},
            "solver_error": solver,
            "nfe_mean": 66.0,
            "nfe_quantiles": {"0.05": 60.0, "0.95": 70.0},
            "not_converged": [],
            "error_images": 32,
            **ode,
        },
        "bound": {**figure, "recon": 0.01, "prior": 0.001, "diffusion": 2.4},
        "images_per_second": 1.0,
        "compilation_seconds": 1.0,
        "quirks": [],
    }
    return in_words(result)


def verdict(ode, draws, quirks=None, converged=(1.0, 1.0)):
    found = {"converged": np.asarray(converged)}
    return code_length(OdePass(ode, draws, seed=0), quirks or ReferenceQuirks(), found)


def test_weighted_draws_with_an_estimated_trace_are_called_no_code_length():
    estimated = verdict(OdeLikelihood(), 20)
    assert estimated["code_length"] is False
    assert (
        "K = 20 > 1 draws are weighted by an estimated trace (1 probe, renewed)"
        in estimated["no_code_length_because"]
    )
    table = " ".join(map(" ".join, rows_in_words(**estimated)))
    assert "NO CODE LENGTH" in table
    assert "evaluate.ode.divergence=exact_trace() for one" in table
    for sound in (verdict(OdeLikelihood(divergence=ExactTrace()), 20), verdict(OdeLikelihood(), 1)):
        assert (sound["code_length"], sound["no_code_length_because"]) == (True, None)
        assert "NO CODE LENGTH" not in dict(rows_in_words(**sound))
    assert verdict(OdeLikelihood(), 1, ReferenceQuirks(unit_prior=True))["code_length"] is False


def test_mean_that_lacks_images_is_no_code_length():
    found = verdict(OdeLikelihood(), 1, converged=(1.0, 0.0, 1.0))
    assert found["code_length"] is False
    assert found["no_code_length_because"].startswith("1 of 3 images did not converge")


@pytest.mark.parametrize("trace", ["1 probe", "exact trace", HutchPlusPlus(30).in_words])
def test_rows_tell_what_the_mean_is_of(trace):
    lost = [12345, 12346, 12347, 12348, *range(20000, 29999)]
    rows = rows_in_words(**verdict(OdeLikelihood(), 20), not_converged=lost, trace=trace)
    table = " ".join(map(" ".join, rows))
    assert trace in table
    assert "images 12345, 12346, 12347, 12348 and 9999 more" in table
    assert "choice of images not resolved by 32 images" in table
    assert "dequantisation 0.0102 ± 0.0012" in table
    assert "-0.00010 ± 0.00010 bpd" in table


def test_figures_with_quirks_are_called_no_code_lengths(workdir):
    quirks = ReferenceQuirks(unit_prior=True)
    made = experiment(quirks=quirks, error_images=0)
    outcome = made.evaluate.run(run_in(workdir, made))
    assert any(what == "NO CODE LENGTHS" and "unit_prior" in how for what, how in outcome.rows)


@pytest.mark.parametrize(
    ("quirk", "settings", "words"),
    [
        ("single_probe", {}, "set train.objective.residual=single_probe"),
        ("unscaled_uniform", {}, "set evaluate.ode.dequantization=uniform_dequantization"),
        ("unscaled_uniform", {"ode": None}, "or leave it out"),
    ],
)
def test_a_quirk_that_changes_nothing_is_refused(quirk, settings, words):
    with pytest.raises(UserError, match=f"evaluate.quirks.{quirk} is True, but .*{words}"):
        Evaluate(quirks=ReferenceQuirks(**{quirk: True}), **settings)


def test_the_quirk_of_uniform_dequantisation_goes_with_it():
    quirks = ReferenceQuirks(unscaled_uniform=True)
    ode, _ = Evaluate(quirks=quirks, ode=OdeLikelihood(UniformDequantization())).passes()
    assert ode is not None and type(ode.ode.dequantization) is UnscaledUniformDequantization


def test_comparison_is_paired_and_knows_a_model_from_itself(evaluated, trained_workdir, workdir):
    made = experiment(seed=1)
    made.evaluate.run(run_in(workdir, made))
    run = run_in(workdir, made, **{"with": str(trained_workdir)})
    outcome = Compare().run(run)
    result = json.loads(outcome.written[0][1].read_text())
    low, high = result["confidence_interval_95"]
    assert result["num_images"] == 6
    assert low < result["difference"] < high
    # The same parameters judged with other noise: no difference beyond chance.
    assert low - 0.1 < 0.0 < high + 0.1


def test_comparison_without_another_model_says_what_to_type(workdir):
    with pytest.raises(UserError, match="--with=WORKDIR"):
        Compare().run(run_in(workdir, experiment()))


def test_comparison_across_data_sets_is_refused_naming_both(evaluated, trained_workdir, workdir):
    other = workdir / "evaluations" / NAME
    other.mkdir(parents=True)
    for name in ("result.json", "per_example.csv"):
        (other / name).write_text((evaluated / name).read_text().replace("aa3dedf3", "bb3dedf3"))
    run = run_in(workdir, experiment(), **{"with": str(trained_workdir)})
    with pytest.raises(UserError, match=r"bb3dedf3.*aa3dedf3"):
        Compare().run(run)


def test_samples_are_the_same_however_many_are_drawn(trained_workdir, workdir):
    made = experiment()
    five = made.sample.run(run_in(workdir, made)).written[0][1]
    images = np.load(five)["images"]
    assert np.load(five)["converged"].tolist() == [True] * 5
    assert np.load(five)["nfe"].shape == (5,)
    assert images.shape == (5, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.max() < 17
    few = type(made.sample)(num_images=2, sampler=type(made.sample.sampler)(controller=LOOSE))
    fewer = np.load(few.run(run_in(workdir, made)).written[0][1])["images"]
    np.testing.assert_array_equal(fewer, images[:2])
