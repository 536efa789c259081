"""`python -m data.prepare`: one sentence and status 2 for a user's mistake, never a traceback."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import sources
from data.checksum import file_checksum, gzip_content_checksum
from data.download import download
from data.errors import DamagedData, MissingData
from data.prepare import convert_published, data_sets, main, prepare
from data.recipe import PublishedFile
from data.sources import cifar10, fashion_mnist
from data.sources.cifar10 import Cifar10
from data.sources.imagenet32 import ImageNet32Old
from data.sources.tfrecords import has_tfrecords
from data.store import is_prepared
from diffusion_ode.errors import UserError

ROOT = Path(__file__).parents[2]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "data.prepare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("source", "downloads"), [(Cifar10(), True), (ImageNet32Old(), False)])
def test_data_that_are_not_there_say_whether_a_command_downloads_them(source, downloads, tmp_path):
    with pytest.raises(MissingData) as missing:
        source.load(tmp_path)
    command = f"type `python -m data.prepare {source.name} --data_dir {tmp_path}`, which downloads"
    assert (command in str(missing.value)) == downloads


def test_the_help_says_what_downloads():
    assert "`python -m data.prepare cifar10` downloads" in " ".join(
        command("--help").stdout.split()
    )


@pytest.mark.parametrize("size", ["0", "-5", "1.5", str(10**5), str(10**30), "9" * 5000])
def test_a_size_has_a_range(size, capsys):
    assert main(["image_folder", "--from=pictures", f"--size={size}"]) == 2
    assert "is no whole number in [1, 16384]" in capsys.readouterr().err


def test_digits_need_nothing():
    result = command("digits")
    assert result.returncode == 0
    assert "digits: 1500 training and 297 test images of 8×8×1, 17 levels" in result.stdout


def test_users_mistakes_are_one_sentence_and_status_2(tmp_path):
    result = command("cifr10", "--data_dir", tmp_path)
    assert result.returncode == 2 and "the nearest is cifar10" in result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("value", ["{[]: 1}", "-" * 20_000 + "1", "[" * 9_000])
def test_what_is_no_value_of_a_field_is_refused(value, tmp_path, capsys):
    flags = [f"--from={tmp_path}", f"--data_dir={tmp_path}", "--set", f"channels={value}"]
    assert main(["image_folder", *flags]) == 2
    error = capsys.readouterr().err
    assert "is not an int in [1, 2147483647]" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["cifar10", "imagenet32_old", "imagenet32_new", "fashion_mnist"])
def test_path_that_is_not_there_says_what_to_get(name, tmp_path, capsys):
    status = main([name, "--from", str(tmp_path / "nothing"), "--data_dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1
    assert error.startswith(f"There is no {tmp_path / 'nothing'}: give the folder or file")
    assert "is not prepared" not in error
    assert f"{tmp_path / 'nothing'}" in error and f"`python -m data.prepare {name} --from " in error


@pytest.mark.parametrize("name", ["cifar10", "imagenet32_old", "imagenet32_new", "fashion_mnist"])
def test_folder_without_the_files_is_refused(name, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    status = main([name, "--from", str(tmp_path / "empty"), "--data_dir", str(tmp_path / "data")])
    error = capsys.readouterr().err
    assert status == 2 and "Traceback" not in error
    assert str(tmp_path / "empty") in error and "is expected: get it anew" in error


def test_file_in_the_place_of_the_data_dir_is_explained(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["photos", "--data_dir", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert "choose another folder with --data_dir" in error and error.count("\n") == 1


def test_what_comes_with_packages_is_not_read_from_a_path(tmp_path):
    with pytest.raises(UserError, match="leave --from out"):
        prepare("photos", tmp_path, tmp_path)


def test_prepared_set_is_verified_when_asked_for_again(make_published, tmp_path, capsys):
    made = make_published("cifar10-binary")
    data_dir = tmp_path / "data"
    convert_published(made.recipe, made.path, data_dir)
    assert main(["cifar10", "--data_dir", str(data_dir)]) == 0
    assert "cifar10: 20 training and 4 test images" in capsys.readouterr().out
    file = data_dir / "cifar10" / "test.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    np.load(file)
    assert main(["cifar10", "--data_dir", str(data_dir)]) == 2
    assert "prepare it again" in capsys.readouterr().err


def test_download_is_checked_and_without_network_says_what_to_get(make_published, tmp_path):
    made = make_published("cifar10-binary")
    published = PublishedFile(
        made.path.name, made.path.stat().st_size, url=made.path.absolute().as_uri()
    )
    recipe = dataclasses.replace(made.recipe, files=(published,))
    convert_published(recipe, None, tmp_path / "data")
    assert is_prepared(tmp_path / "data", "cifar10")
    nowhere = dataclasses.replace(published, name="other.tar.gz", url="file:///nowhere/other")
    recipe = dataclasses.replace(cifar10.RECIPE, files=(nowhere,))
    with pytest.raises(MissingData, match=r"fetching it failed.*`python -m data\.prepare cifar10"):
        download(recipe, tmp_path / "data", lambda _: None)
    assert [file.name for file in (tmp_path / "data" / "downloads").glob("[!.]*")] == [
        made.path.name
    ]


@pytest.mark.parametrize("compressed", ["gzip", "idx"])
def test_file_packed_anew_is_known_by_its_content(compressed, make_published, tmp_path):
    made = make_published(f"fashion_mnist-{compressed}")
    files = tuple(
        dataclasses.replace(
            file,
            content=gzip_content_checksum(
                next(made.path.glob(f"{file.name[:5]}*")), max_bytes=1 << 20
            ),
        )
        for file in fashion_mnist.RECIPE.files
    )
    recipe = dataclasses.replace(made.recipe, files=files)
    convert_published(recipe, made.path, tmp_path / "data")
    assert is_prepared(tmp_path / "data", "fashion_mnist")
    other = tuple(dataclasses.replace(file, content="sha256:0") for file in files)
    with pytest.raises(DamagedData, match="as published"):
        convert_published(dataclasses.replace(recipe, files=other), made.path, tmp_path / "else")


def test_files_larger_than_the_published_ones_are_refused_before_any_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("data.download.file_checksum", lambda *_: pytest.fail("it was read"))
    for name in cifar10.BATCHES:
        (tmp_path / f"{name}.bin").touch()
    os.truncate(tmp_path / "data_batch_3.bin", 40 << 30)
    with pytest.raises(DamagedData, match=r"data_batch_3.bin has 42949672960 bytes, .* at most 3"):
        prepare("cifar10", tmp_path, tmp_path / "made")
    with (tmp_path / "cifar-10-binary.tar.gz").open("wb") as file:
        file.truncate(170_052_170)
    with pytest.raises(DamagedData, match=r"gz has 170052170 bytes, where 170052171, as publishe"):
        prepare("cifar10", tmp_path, tmp_path / "made")


def test_file_under_another_name_is_known_by_its_size_and_else_called_unchecked(
    make_published, tmp_path
):
    made = make_published("cifar10-binary")
    size = made.path.stat().st_size
    official = PublishedFile("official.tar.gz", size, file_checksum(made.path))

    def reported(folder: str, **changes) -> list[str]:
        said = []
        file = dataclasses.replace(official, **changes)
        recipe = dataclasses.replace(made.recipe, files=(file,))
        convert_published(recipe, made.path, tmp_path / folder, said.append)
        return [message for message in said if "not checked" in message]

    assert reported("right") == []
    with pytest.raises(DamagedData, match=r"has checksum sha256:.*as published"):
        reported("altered", checksum="sha256:0")
    unchecked = [f"not checked against a published checksum: {made.path.name}"]
    assert reported("larger", num_bytes=size + 1) == unchecked
    assert reported("unpublished", num_bytes=None, checksum=None) == unchecked


@pytest.mark.parametrize("name", ["imagenet32_old", "imagenet32_new", "fashion_mnist"])
def test_file_that_is_none_of_the_data_sets_is_refused(name, tmp_path, capsys):
    """Its folder, which might be /tmp, is not searched in its stead."""
    file = tmp_path / "anything.zip"
    file.write_bytes(b"")
    (tmp_path / f"{name}-train.tfrecord-00000-of-00001").write_bytes(b"")
    status = main([name, "--from", str(file), "--data_dir", str(tmp_path / "data")])
    error = capsys.readouterr().err
    assert status == 2 and error.startswith(f"{file} is another file, where ")
    assert error.endswith(": give one of them, or their folder.\n") and error.count("\n") == 1


def test_tfrecords_are_looked_for_two_levels_below_and_no_deeper(tmp_path):
    deep = tmp_path / "1" / "2" / "3"
    deep.mkdir(parents=True)
    (deep / "cifar10-train.tfrecord-00000-of-00001").write_bytes(b"")
    assert has_tfrecords(tmp_path / "1") and not has_tfrecords(tmp_path)


def test_a_data_set_is_found_by_its_file_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "stripes.py").write_text(
        "from data.sources.digits import Digits\n\n"
        "class Stripes(Digits):\n"
        "    name = 'stripes'\n\n"
        "DATA_SETS = (Stripes(),)\n"
    )
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    data_sets.cache_clear()
    try:
        assert main(["stripes"]) == 0
    finally:
        data_sets.cache_clear()
    assert capsys.readouterr().out.startswith("stripes: 1500 training and 297 test images")
