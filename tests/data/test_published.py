"""Each reader on a small archive in exactly the publisher's format, by the code users run."""

import dataclasses

import numpy as np
import pytest

from data.errors import DamagedData, MissingData
from data.prepare import convert_published, main
from data.recipe import PublishedFile
from data.sources import cifar10
from data.sources.cifar10 import Cifar10
from data.sources.fashion_mnist import FashionMnist
from data.sources.imagenet32 import ImageNet32New, ImageNet32Old
from data.sources.imagenet64 import ImageNet64
from data.store import open_prepared

SOURCES = {
    source.name: source
    for source in (Cifar10(), ImageNet32Old(), ImageNet32New(), ImageNet64(), FashionMnist())
}
FORMS = [
    "cifar10-binary",
    "cifar10-python",
    "cifar10-unpacked",
    "cifar10-tfrecord",
    "imagenet32_old-tar",
    "imagenet32_old-tfrecord",
    "imagenet64-tar",
    "imagenet32_new-pickle",
    "imagenet32_new-npz",
    "imagenet32_new-tfrecord",
    "fashion_mnist-idx",
    "fashion_mnist-gzip",
    "fashion_mnist-tfrecord",
]


def test_every_form_that_can_be_made_is_tested(make_published):
    assert set(make_published.forms) == set(FORMS)


@pytest.mark.parametrize("form", FORMS)
def test_published_form_gives_its_images_in_order(form, make_published, tmp_path):
    made = make_published(form)
    convert_published(made.recipe, made.path, tmp_path / "data")
    images = SOURCES[made.recipe.name].load(tmp_path / "data")
    np.testing.assert_array_equal(images.train, made.train)
    np.testing.assert_array_equal(images.test, made.test)
    assert isinstance(images.train, np.memmap)
    assert images.manifest.sources and all(":" in sum_ for _, sum_ in images.manifest.sources)


def test_binary_and_pickled_cifar10_have_one_fingerprint(make_published, tmp_path):
    fingerprints = set()
    for kind in ("binary", "python"):
        folder = tmp_path / kind
        made = make_published(f"cifar10-{kind}")
        convert_published(made.recipe, made.path, folder)
        fingerprints.add(open_prepared(Cifar10(), folder).fingerprint)
        made.path.unlink()
        made.path.parent.rmdir()
    assert len(fingerprints) == 1


@pytest.mark.parametrize("counts", [(21, 4), (19, 4), (20, 5), (20, 3)])
def test_wrong_count_is_refused_with_both_numbers(counts, make_published, tmp_path):
    made = make_published("cifar10-binary")
    recipe = dataclasses.replace(made.recipe, num_train=counts[0], num_test=counts[1])
    with pytest.raises(DamagedData, match=r"where exactly \d+ is expected: get it anew"):
        convert_published(recipe, made.path, tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".cifar10.lock"]


def test_official_name_with_another_checksum_is_refused(make_published, tmp_path, capsys):
    made = make_published("cifar10-binary")
    size = made.path.stat().st_size
    official = PublishedFile(made.path.name, size, "md5:c32a1d4ab5d03f1284b67883e8d87530")
    recipe = dataclasses.replace(made.recipe, files=(official,))
    with pytest.raises(DamagedData, match=r"has checksum md5:.*c32a1d4ab5d03f1284b67883e8d87530"):
        convert_published(recipe, made.path, tmp_path / "data")
    # By the command, the real name with the wrong size.
    official_name = made.path.with_name("cifar-10-binary.tar.gz")
    made.path.rename(official_name)
    status = main(["cifar10", "--from", str(official_name), "--data_dir", str(tmp_path / "data")])
    error = capsys.readouterr().err
    assert status == 2
    assert "170052171, as published," in error and str(official_name) in error


@pytest.mark.parametrize("form", [form for form in FORMS if "unpacked" not in form])
@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_truncated_and_empty_files_are_refused(form, damage, make_published, tmp_path):
    made = make_published(form)
    files = [made.path] if made.path.is_file() else sorted(made.path.rglob("*train*"))
    victim = next(file for file in files if file.is_file())
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) * 2 // 3] if damage == "truncated" else b"")
    with pytest.raises(DamagedData, match=r"where .* is expected: get it anew") as caught:
        convert_published(made.recipe, made.path, tmp_path / "data")
    assert victim.name in str(caught.value)
    assert f"`python -m data.prepare {made.recipe.name}` without --from" in str(caught.value)
    assert not (tmp_path / "data" / made.recipe.name).exists()


def test_wrong_shapes_are_refused(archives, make_published, tmp_path):
    made = make_published("imagenet32_old-tar")
    picture = archives.png(archives.images(1, (16, 32, 3))[0])
    archives.tar(made.path / "train_32x32.tar", {"train_32x32/0.png": picture}, "w")
    with pytest.raises(DamagedData, match=r"0\.png is 16 × 32, where a picture of \(32, 32\)"):
        convert_published(made.recipe, made.path, tmp_path / "data")
    files = archives.cifar10("binary", archives.images(24))
    files["cifar-10-batches-bin/data_batch_1.bin"] += b"\0"
    path = archives.tar(tmp_path / "odd.tar.gz", files)
    with pytest.raises(DamagedData, match="a positive multiple of 3073"):
        convert_published(archives.small(cifar10.RECIPE, 20, 4), path, tmp_path / "data")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_missing_data_says_what_to_get_and_what_to_type(name, tmp_path):
    with pytest.raises(MissingData) as caught:
        SOURCES[name].load(tmp_path)
    sentence = str(caught.value)
    assert f"`python -m data.prepare {name} --from " in sentence
    assert f"--data_dir {tmp_path}" in sentence
    assert "http" in sentence
    known = " MB, " in sentence and ("sha256 " in sentence or "md5 " in sentence)
    unknown = name == "imagenet64" and "(size and checksum are not published)" in sentence
    assert known or unknown
    assert sentence.count("\n") == 0


def test_flipped_bit_in_a_prepared_set_is_found(make_published, tmp_path):
    made = make_published("cifar10-binary")
    convert_published(made.recipe, made.path, tmp_path / "data")
    file = tmp_path / "data" / "cifar10" / "train.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedData, match="prepare it again"):
        Cifar10().load(tmp_path / "data")
    file.write_bytes(content[:-5])
    with pytest.raises(DamagedData, match="prepare it again"):
        Cifar10().load(tmp_path / "data")
