"""Sources that need no download, and what every source says without its data."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.errors import DamagedData
from data.location import resolve_data_dir
from data.pipeline import Data
from data.source import Manifest, Source
from data.sources.array_file import ArrayFile
from data.sources.cifar10 import Cifar10
from data.sources.digits import Digits
from data.sources.fashion_mnist import FashionMnist
from data.sources.imagenet32 import ImageNet32New, ImageNet32Old
from data.sources.photos import Photos
from diffusion_ode.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "name", "shape", "levels"),
    [
        (Digits(), "digits", (8, 8, 1), 17),
        (Cifar10(), "cifar10", (32, 32, 3), 256),
        (ImageNet32Old(), "imagenet32_old", (32, 32, 3), 256),
        (ImageNet32New(), "imagenet32_new", (32, 32, 3), 256),
        (FashionMnist(), "fashion_mnist", (28, 28, 1), 256),
        (Photos(), "photos", (32, 32, 3), 256),
        (Photos(16), "photos_16", (16, 16, 3), 256),
    ],
)
def test_source_says_what_it_looks_like_without_its_data(source, name, shape, levels):
    assert isinstance(source, Source)
    data = Data(source)
    assert (data.name, data.shape, data.levels) == (name, shape, levels)
    assert source == type(source)(**dataclasses.asdict(source))


def test_digits_are_the_scans_in_scikit_learn():
    from sklearn.datasets import load_digits

    images = Digits().load()
    whole = np.concatenate([images.train, images.test])[..., 0]
    np.testing.assert_array_equal(whole, load_digits().images)
    assert (len(images.train), len(images.test), images.train.dtype) == (1500, 297, np.uint8)
    assert whole.max() == 16 and whole.min() == 0


def test_fingerprint_is_of_the_images_not_of_their_files():
    manifest = Digits().load().manifest
    assert len(manifest.fingerprint) == 16
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert dataclasses.replace(manifest, sources=(("a", "b"),)).fingerprint == manifest.fingerprint
    for change in (
        {"name": "others"},
        {"levels": 16},
        {"shape": (8, 8, 3)},
        {"train": manifest.test},
        {"test": dataclasses.replace(manifest.test, checksum="sha256:0")},
    ):
        assert dataclasses.replace(manifest, **change).fingerprint != manifest.fingerprint


@pytest.mark.parametrize("size", [16, 32])
def test_photos_are_cut_from_different_photographs(size, tmp_path):
    images = Photos(size).load(tmp_path)
    assert images.train.shape[1:] == images.test.shape[1:] == (size, size, 3)
    assert len(images.train) > 10_000 and len(images.test) > 300
    test = {patch.tobytes() for patch in images.test}
    assert not any(patch.tobytes() in test for patch in images.train)
    again = Photos(size).load(tmp_path)
    assert isinstance(again.train, np.memmap)
    assert again.fingerprint == images.fingerprint


def test_photos_of_other_sizes_are_refused():
    with pytest.raises(UserError, match="patch_size = 20 is not 16 or 32"):
        Photos(20)


def test_array_files_with_a_split_of_their_own(tmp_path):
    train, test = np.full((4, 3, 3, 1), 5, np.uint8), np.full((2, 3, 3, 1), 6, np.uint8)
    np.savez(tmp_path / "both.npz", train=train, test=test)
    np.save(tmp_path / "train.npy", train)
    np.save(tmp_path / "test.npy", test)
    np.savez(tmp_path / "all.npz", train=train, test=test, validation=test[:1] + 1)
    images = ArrayFile(str(tmp_path / "all.npz")).load()
    np.testing.assert_array_equal(images.train, train)
    np.testing.assert_array_equal(images.validation, test[:1] + 1)
    with pytest.raises(UserError, match="test images of its own, and num_test=1 takes others"):
        ArrayFile(str(tmp_path / "all.npz"), num_test=1).load()
    for source in (
        ArrayFile(str(tmp_path / "both.npz")),
        ArrayFile(str(tmp_path / "train.npy"), test_path=str(tmp_path / "test.npy")),
    ):
        images = source.load()
        np.testing.assert_array_equal(images.train, train)
        np.testing.assert_array_equal(images.test, test)


@pytest.mark.parametrize("names", [["test"], ["train"], ["mask"], ["train", "validation"]])
def test_arrays_whose_names_do_not_say_that_they_are_all_images_are_refused(names, tmp_path):
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, UINT8))
    with pytest.raises(UserError, match="where `train` and `test`, or `images` alone is expected"):
        ArrayFile(str(tmp_path / "a.npz")).load()


def test_a_folder_for_a_file_is_told_the_other_source(tmp_path):
    with pytest.raises(UserError, match=r"is a folder: data\.source=image_folder\(path=…\)"):
        ArrayFile(str(tmp_path)).load()


def test_the_levels_that_would_do_are_told(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 3, 3, 1), 255, np.uint8))
    with pytest.raises(UserError, match=r"data\.source\.levels=256 or more"):
        ArrayFile(str(tmp_path / "a.npy"), levels=16).load()


def test_array_files_that_are_not_images_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    cases = [
        (np.zeros((4, 3, 3, 1)), "uint8 of shape"),
        (np.zeros((4, 3, 3), np.uint8), "last axis of 1"),
        (np.zeros((0, 3, 3, 1), np.uint8), "has no images"),
        (np.zeros((1, 3, 3, 1), np.uint8), "has one image, and one to train and one to test"),
        (np.array([{}], dtype=object), "without pickles"),
    ]
    for array, message in cases:
        np.save(path, array)
        with pytest.raises(UserError, match=message):
            ArrayFile(str(path)).load()
    good = np.full((4, 3, 3, 1), 20, np.uint8)
    np.save(path, good)
    with pytest.raises(UserError, match=r"values up to 20.*data\.source\.levels"):
        ArrayFile(str(path), levels=17).load()
    with pytest.raises(UserError, match="num_test=4"):
        ArrayFile(str(path), num_test=4).load()
    whole = path.read_bytes()
    for content in (whole[:-3], whole + b"surplus"):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"whole \.npy.*: save it anew with np\.save or np\.savez\.$"
        ):
            ArrayFile(str(path)).load()
    with pytest.raises(UserError, match="There is no file"):
        ArrayFile(str(tmp_path / "none.npy")).load()
    npz = tmp_path / "a.npz"
    np.savez(npz, images=np.array([{}], dtype=object))
    with pytest.raises(DamagedData, match=r"`images` of object \[1\], where uint8"):
        ArrayFile(str(npz)).load()
    np.savez(npz, images=good)
    content = npz.read_bytes()
    for damage in (content[:100], b"", content.replace(b"(4, 3, 3, 1)", b"(9, 9, 9, 9)")):
        npz.write_bytes(damage)
        with pytest.raises(DamagedData, match=r"without pickles is .*: save it anew with np\.save"):
            ArrayFile(str(npz)).load()


UINT8 = np.zeros((4, 3, 3, 1), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"train": UINT8.astype(np.int64), "test": UINT8}, r"`train` of int64 \[4, 3, 3, 1\]"),
        ({"data": UINT8 / 255, "mask": UINT8}, r"`data` of float64 \[4, 3, 3, 1\]"),
        ({"images": UINT8, "data": UINT8}, r"`images` uint8 .*, `data` uint8 .*`images` alone"),
        ({"x": UINT8, "y": UINT8[:, 0, 0, 0]}, r"`x` uint8 .*, `y` uint8 \[4\], where `train`"),
    ],
)
def test_no_array_is_taken_in_the_place_of_another(arrays, says, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DamagedData, match=says):
        ArrayFile(str(tmp_path / "a.npz")).load()


def test_arrays_that_are_left_out_are_told(tmp_path):
    np.savez(tmp_path / "a.npz", images=UINT8, labels=np.arange(4))
    images = ArrayFile(str(tmp_path / "a.npz")).load()
    left_out = "left out: `labels` int64 [4] of a.npz"
    assert images.manifest.notes == ("test images: the last 1 of the file", left_out)
    np.savez(tmp_path / "b.npz", images=UINT8)
    other = dataclasses.replace(images.manifest, notes=())
    assert other.fingerprint == images.fingerprint


def test_data_dir_is_the_flag_then_the_environment_then_the_cache(monkeypatch):
    monkeypatch.setenv("DIFFUSION_ODE_DATA", "/from/environment")
    assert resolve_data_dir("/from/flag") == Path("/from/flag")
    assert resolve_data_dir() == Path("/from/environment")
    monkeypatch.delenv("DIFFUSION_ODE_DATA")
    assert resolve_data_dir() == Path.home() / ".cache" / "diffusion_ode"


def test_importing_data_imports_nothing_heavy():
    code = (
        "import sys; from data.pipeline import Data; from data.sources.cifar10 import Cifar10; "
        "Data(Cifar10()).shape; "
        "print([m for m in ('grain', 'sklearn', 'PIL', 'jax', 'skimage') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
