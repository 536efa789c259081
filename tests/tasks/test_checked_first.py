"""What a later task cannot do is found before the first step of training, and who is to blame."""

import numpy as np
import pytest

from diffusion_ode.coding.container import MAGIC
from diffusion_ode.tasks.train import Train
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import override
from launch.run import main
from tests.strangers.walk import TINY

BROKEN = {
    "evaluate.ode.solver": "Adams",
    "evaluate.ode.controller": "PIController",
    "evaluate.ode.divergence": "HutchinsonTrace",
    "evaluate.ode.variable": "LogSnrVariable",
    "evaluate.ode.dequantization": "TruncatedNormalDequantization",
    "evaluate.bound.times": "UniformTimes",
    "evaluate.bound.ends": "GaussianEnds",
    "model.parameterization": "VelocityPrediction",
    "sample.sampler.solver": "Adams",
    "sample.sampler.decoder": "NearestLevel",
    "train.validation_bound.ends": "GaussianEnds",
}


@pytest.fixture
def launched(tmp_path, capsys):
    def launch(*settings, flags=()):
        workdir = tmp_path / "run"
        set_ = [f"--set={setting}" for setting in (*TINY, *settings)]
        status = main(["--exp=digits_vp", f"--workdir={workdir}", *set_, *flags])
        assert not (workdir / "checkpoints").exists()
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        return status, said

    return launch


@pytest.mark.parametrize("path", BROKEN)
def test_a_broken_piece_is_named_before_the_first_step(path, launched):
    name = f"Broken{BROKEN[path]}"
    status, said = launched(f"{path}=tests.tasks.broken_pieces:{name}()")
    assert status == 1
    task = path.partition(".")[0].replace("model", "train")  # whose bound asks for it first
    assert said.startswith(f"{task} failed at {path} ({name}): TypeError: an argument too few;")
    assert "the traceback is in " in said


def test_what_a_task_itself_raises_names_no_piece(launched, monkeypatch):
    def check(self, experiment):
        raise TypeError("an argument too few")

    monkeypatch.setattr(Train, "check", check)
    status, said = launched()
    assert status == 1
    assert said.startswith("train failed: TypeError: an argument too few;")


def test_a_decoder_whose_images_are_others_is_refused(launched):
    status, said = launched("sample.sampler.decoder=tests.tasks.broken_pieces:FlatDecoder()")
    assert status == 2
    assert "decoder makes images of shape [8, 8], where the model's have [8, 8, 1]" in said


@pytest.mark.parametrize(
    "setting",
    [
        "sample.num_images=2000000000",
        "evaluate.num_importance=2000000000",
        "evaluate.ode.lanes=2000000000",
        "train.batch_size=2000000000",
    ],
)
def test_what_memory_has_no_room_for_is_refused_with_the_estimate(setting, launched):
    status, said = launched(setting)
    assert status == 2
    path, _, value = setting.partition("=")
    assert said.startswith(f"{path} = {value} takes at least ")
    assert said.endswith("give fewer.\n")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("'sample', 'fid'", "The task fid needs a network or features: "),
        ("'fid'", "after_training names 'fid' without 'sample' before it"),
        ("'fid', 'sample'", "after_training names 'fid' without 'sample' before it"),
        ("'evaluate', 'evaluate'", "after_training names 'evaluate' twice"),
        ("'decompress'", "decompress.file is None: "),
        ("'decompress'; decompress.file=/none.ode", "decompress.file = /none.ode is no file: "),
        ("'decompress'; decompress.file=README.md", "The file was not written by compressing: "),
        (
            "'decompress'; decompress.file=HUGE",
            "decompress.file = HUGE has more than 537 MB, as no",
        ),
        ("'fid'; fid.features=README.md; fid.reference=README.md", "README.md is no whole .npy or"),
        (
            "'sample', 'fid'; fid.network=tests.tasks.test_fid:Means(); fid.samples=/none",
            "/none is",
        ),
        (
            "'compress', 'decompress'; decompress.file=/none.ode",
            "decompress.file = /none.ode is no",
        ),
        (
            "'sample', 'fid'; fid.network=tests.tasks.test_fid:Means(); sample.num_images=1",
            "The task fid judges how samples spread, and sample.num_images = 1",
        ),
        (
            "'evaluate'; evaluate.split=validation; data.held_out=0",
            "digits has no validation images: give another split, or train with some held out",
        ),
        ("'evaluate'; evaluate.data=tests.tasks.broken_pieces:NoDigits()", "The digits are lost."),
        (
            "'compress'; compress.split=validation; compress.likelihoods=False; data.held_out=0",
            "digits has no validation images: give another split, or train with some held out",
        ),
        ("'compare'; compare.other=nosuch", "compare.other = 'nosuch' is no evaluation that there"),
        (
            "'evaluate', 'compare'; compare.other=nosuch",
            "compare.other = 'nosuch' is no evaluation that there will be, which are truncated_n",
        ),
        (
            "'evaluate', 'compare'; compare.other=truncated_normal-k1",
            "after_training names 'compare', for which ",
        ),
        (
            "'dequantizer'; dequantizer.train.batch_size=2000000000",
            "dequantizer.train.batch_size = 2000000000 takes at least ",
        ),
        (
            "'dequantizer'; dequantizer.train.validation_images=9",
            "dequantizer.train.validation_images = 9, but a dequantisation alone neither draws nor",
        ),
        (
            "'sample', 'fid'; fid.network=torch_fidelity_inception('/none.pth')",
            "There is no file /none.pth: get weights-inception",
        ),
        ("'compare'", "after_training names 'compare', where --with cannot name another model: "),
    ],
)
def test_a_task_without_its_file_is_refused_before_the_training_that_it_follows(
    settings, says, launched, tmp_path
):
    huge = tmp_path / "huge.ode"
    with huge.open("wb") as file:
        file.write(MAGIC)
        file.truncate(60 << 30)
    settings, says = (text.replace("HUGE", str(huge)) for text in (settings, says))
    tasks, *others = settings.split("; ")
    status, said = launched(f"after_training=({tasks},)", *others)
    assert status == 2
    assert said.startswith(says)


def test_features_of_two_networks_are_refused_before_the_training(launched, tmp_path):
    for width in (4, 5):
        np.save(tmp_path / f"{width}.npy", np.eye(8, width))
    files = (f"fid.features={tmp_path}/4.npy", f"fid.reference={tmp_path}/5.npy")
    status, said = launched("after_training=('fid',)", *files)
    assert status == 2
    assert said.startswith("The drawn images have 4 features and the real ones 5: give both")


@pytest.mark.parametrize(
    ("task", "place", "kind"),
    [
        ("evaluate", "evaluations/1300-mine", "folder"),
        *(
            ("evaluate", f"evaluations/1300-mine/{name}", "file")
            for name in (".lock", "settings.json", "per_example.csv", "result.json")
        ),
        ("sample", "tensorboard/samples", "folder"),
        ("compress", "compressed/1300-test.ode", "file"),
        ("compress", "compressed/1300-test.json", "file"),
        ("dequantizer", "dequantizer/checkpoints", "folder"),
        ("dequantizer", "dequantizer/run.json", "file"),
    ],
)
def test_what_lies_where_a_task_will_write_is_refused_before_the_training(
    task, place, kind, launched, tmp_path
):
    path = tmp_path / "run" / place
    path.parent.mkdir(parents=True)
    path.write_text("other") if kind == "folder" else path.mkdir()
    settings = ("evaluate.name=mine",) if task == "evaluate" else ()
    status, said = launched(f"after_training=('{task}',)", *settings)
    assert status == 2
    assert said == f"{path} is no {kind}, which it is in a run's workdir: move it.\n"


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "metrics.csv"])
def test_nothing_is_appended_through_a_link(name, launched, tmp_path):
    (tmp_path / "precious").write_text("much work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "precious")
    assert launched() == (
        2,
        f"{tmp_path / 'run' / name} is a link, which is not followed: remove it.\n",
    )
    assert (tmp_path / "precious").read_text() == "much work"


@pytest.mark.parametrize(
    ("checkpoint", "settings", "says"),
    [
        ("7", ("train.num_steps=8",), "--checkpoint=7 is of the tasks after the training, which"),
        ("best", ("train.validation_images=0",), "--checkpoint=best is of the tasks after"),
        ("best_on_test", (), "--checkpoint=best_on_test is of the tasks after the training, which"),
        ("best", ("data.held_out=0",), "digits has no validation images"),
    ],
)
def test_a_checkpoint_that_there_will_not_be_is_refused(checkpoint, settings, says, launched):
    status, said = launched(*settings, flags=(f"--checkpoint={checkpoint}",))
    assert status == 2
    assert said.startswith(says)


def test_a_quirk_that_does_not_go_with_the_model_is_refused(launched):
    prior = ("model.base=gaussian_base()", "model.prior=fitted_prior()")
    status, said = launched(*prior, "evaluate.quirks.unit_prior=True")
    assert status == 2
    assert said.startswith("evaluate.quirks.unit_prior is the N(0, I) of the published bound")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("digits_vdm", ()),
        ("digits_vdm_by_pixel", ()),
        ("digits_vp", ("model.base=gaussian_base()", "model.prior=fitted_prior()")),
        ("digits_vp", ("sample.sampler=ancestral_sampler()", "train.pictures_every=10")),
    ],
)
def test_models_and_samplers_of_each_kind_pass(name, settings):
    config = registry.configuration_of(registry.find(name))
    experiment = build(override(config, [*TINY, *settings]))
    for task in ("train", "evaluate", "sample", "dequantizer"):
        getattr(experiment, task).check(experiment)
