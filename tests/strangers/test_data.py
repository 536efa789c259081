"""Data sets that nothing in the program knows, from an .npz file and from a folder of PNGs."""

import numpy as np
import pytest
from PIL import Image

from diffusion_ode.errors import UserError
from launch.run import main
from tests.strangers.data_folder import Icons
from tests.strangers.data_npz import Stripes
from tests.strangers.walk import walk


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 4, (20, 4, 4, 1)).astype(np.uint8)


@pytest.fixture
def npz(images, tmp_path):
    file = tmp_path / "stripes.npz"
    np.savez(file, train=images[4:], test=images[:4])
    return file


@pytest.fixture
def folder(images, tmp_path):
    place = tmp_path / "icons"
    place.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(place / f"{number:02}.png")
    return place


def test_an_npz_goes_all_the_way(npz, tmp_path):
    source = f"--set=data.source.path={npz}"
    walked = walk(tmp_path, "--exp=tests.strangers.data_npz:stripes_vp", source)
    assert walked.steps == [1, 2, 3, 4]
    assert walked.result["data"]["name"] == "stripes"
    assert walked.result["data"]["shape"] == [4, 4, 1]


def test_a_folder_of_pngs_goes_all_the_way(folder, tmp_path):
    flags = ("--exp=tests.strangers.data_folder:icons_vp", f"--data_dir={tmp_path / 'prepared'}")
    walked = walk(tmp_path, *flags, f"--set=data.source.path={folder}")
    assert walked.steps == [1, 2, 3, 4]
    assert walked.result["data"]["name"] == "icons"
    assert [place.name for place in (tmp_path / "prepared").glob("[!.]*")] == ["icons-20"]


def test_images_of_more_channels_than_colours_go_all_the_way(tmp_path):
    levels = np.random.default_rng(0).integers(0, 4, (20, 4, 4, 5)).astype(np.uint8)
    np.save(tmp_path / "many.npy", levels)
    walked = walk(
        tmp_path,
        "--exp=tests.strangers.data_npz:stripes_vp",
        f'--set=data.source=array_file(path="{tmp_path / "many.npy"}", levels=4)',
        "--set=model.pixels=pixels(shape=(4, 4, 5), levels=4)",
        "--set=train.pictures_every=2",
    )
    assert walked.result["data"]["shape"] == [4, 4, 5]
    (grid,) = walked.workdir.glob("samples/4/grid.png")
    with Image.open(grid) as picture:
        assert picture.mode == "RGB"


def test_the_folder_s_images_are_those_that_were_saved(images, folder, tmp_path):
    loaded = Icons(str(folder)).load(tmp_path / "prepared")
    np.testing.assert_array_equal(loaded.test, images[::5])
    assert len(loaded.train) == 16
    assert loaded.fingerprint == Icons(str(folder)).load(tmp_path / "prepared").fingerprint


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), r"training images float32 \[2, 4, 4, 1\]"),
        (np.zeros((2, 4, 4), np.uint8), r"give at least one, uint8 \[n, 4, 4, 1\]"),
        (np.full((2, 4, 4, 1), 4, np.uint8), "values up to 4, but levels = 4 allows 3"),
        (np.full((2, 4, 4, 1), 4, np.uint8), "levels=5 or more, and model.pixels.levels alike"),
        (np.zeros((0, 4, 4, 1), np.uint8), "give at least one"),
    ],
)
def test_images_that_are_not_what_the_source_says_are_refused(made, says, images, tmp_path):
    np.savez(tmp_path / "wrong.npz", train=made, test=images)
    with pytest.raises(UserError, match=says):
        Stripes(str(tmp_path / "wrong.npz")).load()


def test_a_model_for_other_images_is_refused_with_the_setting_that_fits(capsys):
    flags = ["--exp=tests.strangers.data_npz:stripes_vp", "--set=model.pixels.levels=17"]
    assert main([*flags, "--describe"]) == 2
    assert "model.pixels=pixels(shape=(4, 4, 1), levels=4)'.\n" in capsys.readouterr().err


def test_a_file_whose_levels_nobody_told_may_have_those_of_the_model(npz, capsys):
    flags = ["--exp=tests.strangers.data_npz:stripes_vp", "--set=data.held_out=0"]
    source = f'--set=data.source=array_file(path="{npz}")'
    assert main([*flags, source, "--describe"]) == 2
    error = capsys.readouterr().err
    assert "levels=256)', or, if all values are below 4, --set data.source.levels=4." in error
    assert main([*flags, source, "--set=data.source.levels=4", "--describe"]) == 0
