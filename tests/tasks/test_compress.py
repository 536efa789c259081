"""From a checkpoint to a file and back."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from data.pipeline import Data
from data.sources.digits import Digits
from diffusion_ode.coding.settings import CodecSettings
from diffusion_ode.errors import UserError
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.tasks import compress, decompress
from diffusion_ode.tasks.compress import Compress
from diffusion_ode.tasks.decompress import Decompress
from launch.run import main
from tests.tasks.conftest import LOOSE, experiment, run_in

TASK = Compress(num_images=6, codec=CodecSettings(steps=3))
# Not compiled by the tests of `evaluate`, which see how long that takes.
JUDGED = {"ode": OdeLikelihood(controller=LOOSE, lanes=2), "bound": VariationalBound(draws=3)}


@pytest.fixture(scope="module")
def home(trained_workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compressed")
    (folder / "checkpoints").symlink_to(trained_workdir / "checkpoints")
    return folder


@pytest.fixture(scope="module")
def compressed(home):
    result = TASK.run(run_in(home, experiment(**JUDGED)))
    return result, *(path for _, path in result.written)


def test_file_is_named_after_its_images_and_gives_them_back(home, compressed):
    _, file, _ = compressed
    assert file == home / "compressed" / "2-test-first6.ode"
    result = Decompress(str(file)).run(run_in(home, experiment()))
    images, picture = (path for _, path in result.written)
    assert images == home / "decompressed" / "2-test-first6" / "images.npz"
    assert np.array_equal(np.load(images)["images"], Digits().load().test[:6])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_another_file_of_the_same_name_keeps_the_images_of_the_first(
    workdir, compressed, tmp_path, monkeypatch
):
    _, file, _ = compressed
    monkeypatch.setattr(decompress, "decompress", lambda *_: Digits().load().test[:6])
    monkeypatch.setattr(decompress, "unpack", lambda data: (SimpleNamespace(count=6), data))

    def read(folder, content):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "5-test.ode").write_bytes(content)
        task = Decompress(str(tmp_path / folder / "5-test.ode"))
        return task.run(run_in(workdir, experiment())).written[0][1].parent.name

    data = file.read_bytes()
    assert [read("a", data), read("b", data + b"1"), read("a", data)] == [
        *("5-test", "5-test-2", "5-test"),
    ]


def test_a_file_that_is_made_only_after_training_is_not_missed_before(workdir):
    def check(file, *following):
        made = dataclasses.replace(experiment(), after_training=following)
        Decompress(str(file)).check_reading(run_in(workdir, made))

    coming = workdir / "compressed/7-test-first3.ode"
    check(coming, "compress", "decompress")
    check("nowhere.ode", "diffusion_ode.tasks.sample:Sample", "decompress")
    for file, *following in (
        (coming, "decompress"),
        (coming.with_name("7-other.ode2"), "compress", "decompress"),
        (workdir / "7-test.ode", "compress", "decompress"),
    ):
        with pytest.raises(UserError, match="is no file"):
            check(file, *following)


def test_figures_tell_the_size_of_the_file_and_what_it_is_compared_with(compressed):
    result, file, figures = compressed
    told = json.loads(figures.read_text())
    bits = told["bits_per_dimension"]
    assert told["bytes"] == file.stat().st_size
    assert bits["file"] == 8 * told["bytes"] / (6 * 64)
    # What the coder itself holds counts where so few images share it.
    assert bits["payload"] == pytest.approx(bits["steps_bound"], rel=0.1)
    codes = {"PNG, one sheet", "WebP, each by itself", "JPEG XL, one sheet"}
    assert {"ode", "ode_error", "bound", "bound_error", "header"} | codes <= bits.keys()
    rows = dict(result.rows)
    assert rows["file"].endswith("decoded: equal, every byte")
    assert rows["bits per dimension of all of it"] == f"{bits['file']:.4f}"
    assert rows["the likelihood by the ODE"].startswith(f"{bits['ode']:.4f} ± ")
    assert any(flag.startswith("--set=decompress.file=") for flag in result.next_flags)


def test_a_damaged_file_is_refused_and_nothing_written(workdir, compressed, tmp_path):
    _, file, _ = compressed
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 4
    (tmp_path / "damaged.ode").write_bytes(damaged)
    with pytest.raises(UserError, match="cut off or altered"):
        Decompress(str(tmp_path / "damaged.ode")).run(run_in(workdir, experiment()))
    assert not (workdir / "decompressed").exists()
    assert not (workdir / "run.json").exists()


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (Decompress(), "name a file by --set decompress.file"),
        (Decompress("nowhere.ode"), "nowhere.ode is no file"),
        (dataclasses.replace(TASK, split="validation"), "has no validation images"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(workdir, task, says):
    with pytest.raises(UserError, match=says):
        task.run(run_in(workdir, experiment()))


def test_validation_images_that_were_trained_on_are_refused(workdir):
    made = dataclasses.replace(experiment(), data=Data(Digits(), held_out=100))
    with pytest.raises(UserError, match="trained on 100 of the validation images"):
        dataclasses.replace(TASK, split="validation").run(run_in(workdir, made))


def test_a_wrong_setting_is_refused():
    with pytest.raises(UserError, match="num_images"):
        Compress(num_images=0)
    with pytest.raises(UserError, match="split = 'all' is not 'train', 'validation' or 'test'"):
        Compress(split="all")


def test_the_command_line_knows_both_tasks(tmp_path, capsys):
    flags = ["--exp=digits_vp", f"--workdir={tmp_path / 'new'}", "--task=decompress"]
    assert main(flags) == 2
    assert "decompress.file is None" in capsys.readouterr().err
    assert main([*flags, "--set=decompress.file=gone.ode"]) == 2
    assert "gone.ode is no file" in capsys.readouterr().err
    assert main(["--exp=digits_vp", "--describe=full", "--set=compress.codec.steps=50"]) == 0
    assert "compress.codec = CodecSettings(steps=50" in capsys.readouterr().out


def test_more_images_than_a_file_may_hold_are_refused_before_training(workdir, monkeypatch):
    monkeypatch.setattr(compress, "MAX_IMAGE_BYTES", 64 * 10)
    with pytest.raises(UserError, match=r"take 704 B, .*: give --set compress.num_images=10, or"):
        Compress(num_images=11).check_reading(run_in(workdir, experiment()))
    Compress(num_images=10).check_reading(run_in(workdir, experiment()))
