"""A folder of one's own pictures: nothing is altered or left out without a word."""

import os
import shlex
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from data.errors import DamagedData
from data.pipeline import Data
from data.prepare import main
from data.sources.image_folder import ImageFolder
from diffusion_ode.errors import UserError
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import override

RED, GREY = np.full((5, 6, 3), (200, 10, 20), np.uint8), np.full((5, 6), 77, np.uint8)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


@pytest.fixture
def load(folder, tmp_path):
    def load(**settings):
        return ImageFolder(str(folder), **settings).load(tmp_path / "data")

    return load


def save(file, pixels=RED, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(file, **options)


def save_numbered(folder, count, **options):
    for k in range(count):
        save(folder / f"{k:03d}.png", np.full((5, 6, 3), k, np.uint8), **options)


def png_of_16_bits(channels):
    """Pillow writes none in colour: 5 × 6 pixels of the levels 0, 70, 140, … of 65 536."""
    levels = np.arange(5 * 6 * channels).reshape(5, -1) * 70
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", 6, 5, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def test_without_folders_of_splits_one_picture_in_ten_is_a_test_image(load, folder):
    save_numbered(folder, 21)
    images = load()
    assert images.manifest.shape == (5, 6, 3)
    assert images.test[:, 0, 0, 0].tolist() == [9, 19]
    assert images.train[:, 0, 0, 0].tolist() == [k for k in range(21) if k not in (9, 19)]
    assert images.manifest.notes == ("by name, one in 10 is a test image",)


def test_a_seed_draws_the_test_images(load, folder):
    save_numbered(folder, 20)
    first, same, other = (load(test_fraction=0.25, seed=seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.test)) == (15, 5)
    assert first.fingerprint == same.fingerprint != other.fingerprint
    together = np.concatenate([first.train, first.test])[:, 0, 0, 0]
    assert sorted(together) == list(range(20)) != together.tolist()
    assert first.manifest.notes == ("25% are test images, drawn with seed 0",)


def test_folders_of_splits_are_known_in_any_case_of_letters(load, folder):
    for k, place in enumerate(("Train/cats", "Train/dogs", "TEST", "val", "others", ".thumbs")):
        save(folder / place / "0.png", np.full((5, 6), k, np.uint8))
    images = load()
    assert images.train[:, 0, 0, 0].tolist() == [0, 1]
    assert images.test[:, 0, 0, 0].tolist() == [2]
    assert images.validation is not None and images.validation[:, 0, 0, 0].tolist() == [3]
    assert images.manifest.shape == (5, 6, 1)
    assert images.manifest.notes == (
        "test from folder TEST, train from folder Train, validation from folder val",
        "left out: names of 2 folders, such as cats, as labels",
        "left out: 1 hidden, such as .thumbs",
        "left out: 1 outside the splits' folders, such as others/0.png",
    )
    with pytest.raises(UserError, match=r"1 validation images of its own.*data\.held_out=0"):
        Data(ImageFolder(str(folder)), held_out=1).load(folder.parent / "data")


@pytest.mark.parametrize("there", [("Test",), ("train", "test", "Test"), ("train",)])
def test_folders_that_make_no_split_are_refused(there, load, folder):
    for name in (*there, "others"):
        save(folder / name / "0.png")
    with pytest.raises(UserError, match="do not tell training from test images"):
        load()


def test_other_pictures_of_the_same_names_sizes_and_times_are_other_data(load, folder):
    for k in range(3):
        save(folder / f"{k}.bmp")
    before = load()
    status = (folder / "1.bmp").stat()
    save(folder / "1.bmp", RED[..., ::-1])
    os.utime(folder / "1.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load()
    assert (folder / "1.bmp").stat().st_size == status.st_size
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.train[1], RED[..., ::-1])


def test_the_same_pictures_elsewhere_are_converted_no_second_time(load, folder, tmp_path):
    save_numbered(folder, 3)
    first = load()
    shutil.copytree(folder, tmp_path / "copy")
    again = ImageFolder(str(tmp_path / "copy")).load(tmp_path / "data")
    assert again.fingerprint == first.fingerprint
    assert len(list((tmp_path / "data").glob("image_folder-*"))) == 1


@pytest.mark.parametrize("left", [b"", b"\0", b"../../evil", b"\xff" * 16, b"abc"])
def test_what_is_no_note_of_a_folders_content_is_not_believed(left, load, folder, tmp_path):
    save_numbered(folder, 3)
    first = load()
    save_numbered(tmp_path / "others", 5)
    others = ImageFolder(str(tmp_path / "others"))
    others.load(tmp_path / "data")
    for note in (tmp_path / "data" / ".listings").iterdir():
        note.write_bytes(left)
    assert load().fingerprint == first.fingerprint
    assert others.load(tmp_path / "data").fingerprint != first.fingerprint


def test_other_files_come_and_go_and_nothing_is_converted_anew(folder, tmp_path):
    save_numbered(folder, 3)
    data_dir = folder / "prepared"  # whose files are other files, too
    first = ImageFolder(str(folder)).load(data_dir)
    (folder / "notes.txt").write_text("")
    again = ImageFolder(str(folder)).load(data_dir)
    assert len(list(data_dir.glob("image_folder-*"))) == 1
    assert again.fingerprint == first.fingerprint
    assert "left out: 1 .txt, such as notes.txt" in again.manifest.notes
    assert "left out: 1 .txt, such as notes.txt" not in first.manifest.notes


def test_pictures_of_every_format_are_taken_whatever_their_suffix(load, folder):
    options = {"png": {}, "JPG": {}, "jpeg": {}, "webp": {"lossless": True}, "bmp": {}}
    options |= {"tif": {}, "TIFF": {"compression": "tiff_lzw"}}
    for suffix, more in options.items():
        save(folder / f"a.{suffix}", **more)
    save(folder / "really_a_png.jpg", format="PNG")
    images = load()
    assert len(images.train) + len(images.test) == 8
    assert np.abs(images.train.astype(int) - RED).max() < 10  # JPEG


def test_what_is_left_out_is_counted_with_an_example(load, folder):
    save_numbered(folder, 3)
    for name in ("labels.csv", "a.txt", "b.txt", ".DS_Store", "README"):
        (folder / name).write_text("")
    (folder / "gone.png").symlink_to("nothing.png")
    assert load().manifest.notes[1:] == (
        "left out: 1 hidden, such as .DS_Store",
        "left out: 1 without a suffix, such as README",
        "left out: 2 .txt, such as a.txt",
        "left out: 1 linked to nothing, or not regular, such as gone.png",
        "left out: 1 .csv, such as labels.csv",
    )


def test_folders_behind_links_belong_to_it_and_are_taken_once(load, folder, tmp_path):
    save_numbered(folder / "some", 2)
    save(tmp_path / "elsewhere" / "9.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "some" / "loop").symlink_to(folder)
    images = load()
    assert len(images.train) + len(images.test) == 3
    twice = "left out: 1 in folders that are there twice, by links, such as some/loop"
    assert twice in images.manifest.notes


REFUSED = {
    "one grey among colours": (
        {"000.png": GREY},
        r"numbers of channels, such as 5×6×1 of .*000\.png and 5×6×3 of .*1\.png: set .*channels=1",
    ),
    "another size": ({"1.png": RED[1:]}, r"different sizes.*4×6×3.*data\.source\.resize=32 and"),
    "transparent": (
        {"1.png": Image.fromarray(RED).convert("RGBA")},
        r"different numbers of channels, such as 5×6×3 of .* and 5×6×4 of .*1\.png",
    ),
    "16 bits, grey": (
        {"1.png": png_of_16_bits(1), "2.tif": Image.fromarray(GREY.astype(np.uint16))},
        r"2 of 5 pictures have 16 bits per channel.*data\.source\.eight_bits=True",
    ),
    "16 bits, colour": ({"1.png": png_of_16_bits(3)}, r"1 of 4 .* 16 bits .*1\.png"),
    "32 bits": ({"1.tif": Image.fromarray(GREY.astype(np.float32))}, "32 bits per channel"),
    "printing colours": (
        {"1.jpg": Image.fromarray(RED).convert("CMYK")},
        r"colours in CMYK, such as .*1\.jpg: set data\.source\.channels=3",
    ),
    "an unnamed fourth channel": (
        {"1.tif": Image.fromarray(RED).convert("RGBX")},
        "colours in RGB with another channel",
    ),
    **{
        f"several frames in {suffix}": (
            {f"1.{suffix}": [Image.fromarray(RED), Image.fromarray(RED[::-1] // 2)]},
            r"several frames or pages.*data\.source\.first_frame=True",
        )
        for suffix in ("png", "webp", "tif")
    },
}


def save_any(file, what):
    if isinstance(what, bytes):
        file.write_bytes(what)
    elif isinstance(what, list):
        save(file, what[0], save_all=True, append_images=what[1:])
    else:
        save(file, what)


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_altered_is_refused_until_it_is_asked_for(case, load, folder):
    files, says = REFUSED[case]
    save_numbered(folder, 3)
    for name, what in files.items():
        save_any(folder / name, what)
    with pytest.raises(UserError, match=says):
        load()


def test_every_conversion_that_was_asked_for_is_counted(load, folder):
    save_numbered(folder, 3)
    for files, _ in REFUSED.values():
        for name, what in files.items():
            if "32 bits" not in name and name != "1.tif":
                save_any(folder / name, what)
    save_any(folder / "frames.tif", REFUSED["several frames in tif"][0]["1.tif"])
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    save(folder / "turned.jpg", np.zeros((16, 8, 3), np.uint8), exif=turned)
    images = load(resize=4, crop=4, channels=3, eight_bits=True, first_frame=True)
    assert images.manifest.shape == (4, 4, 3)
    told = dict(note.split(", such as ") for note in images.manifest.notes[1:])
    assert told["converted: 1 turned upright by EXIF"] == "turned.jpg"
    assert told["converted: 1 from CMYK to colour"] == "1.jpg"
    assert told["converted: 1 of more than 8 bits, of which the upper 8 are taken"] == "2.tif"
    assert told["converted: 2 from grey to colour"] == "000.png"
    assert {"converted: 3 of several frames or pages, of which the first is taken"} <= told.keys()
    assert any(told_of.endswith("reduced in size") for told_of in told)
    assert any(told_of.endswith("cropped") for told_of in told)


def only_image(load, folder, **settings):
    """The second of two pictures is the test image."""
    save(folder / "0.png", RED)
    return load(**settings).test[0]


def test_eight_bits_are_the_upper_ones(load, folder):
    folder.mkdir()
    (folder / "1.png").write_bytes(png_of_16_bits(3))
    expected = (np.arange(90).reshape(5, 6, 3) * 70) >> 8
    np.testing.assert_array_equal(only_image(load, folder, eight_bits=True), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_as_their_exif_says(suffix, orientation, load, folder):
    upright = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24) // 2
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    colour = np.repeat(stored[orientation][..., None], 3, axis=2)
    save(folder / f"1.{suffix}", np.ascontiguousarray(colour), exif=exif)
    save(folder / "0.png", np.repeat(upright[..., None], 3, axis=2))
    images = load()
    assert np.abs(images.test[0, ..., 0].astype(int) - upright).max() <= 12  # JPEG, WebP
    turned = [note for note in images.manifest.notes if "turned upright" in note]
    assert len(turned) == (orientation != 1)


def test_a_picture_is_resized_by_its_shorter_side_and_cropped_in_the_middle(load, folder):
    wide = np.zeros((4, 16, 3), np.uint8)
    wide[:, 4:12] = 255  # what a crop of 2 × 2 after a halving sees is the middle
    save(folder / "1.png", wide)
    assert only_image(load, folder, resize=2, crop=2).tolist() == [[[255] * 3] * 2] * 2
    with pytest.raises(UserError, match=r"less than 8 pixels on a side.*resize=8 to enlarge"):
        load(crop=8)


@pytest.mark.parametrize(
    ("channels", "pixel"), [(1, [68]), (3, [200, 10, 20]), (4, [200, 10, 20, 255])]
)
def test_channels_that_were_asked_for(channels, pixel, load, folder):
    save(folder / "1.png")
    assert only_image(load, folder, channels=channels)[0, 0].tolist() == pixel


def test_opacity_stays_a_channel_where_all_pictures_have_it(load, folder):
    for k in range(2):
        save(folder / f"{k}.png", np.full((5, 6, 4), (1, 2, 3, 4), np.uint8))
    assert load().test[0, 0, 0].tolist() == [1, 2, 3, 4]


def test_a_fraction_beside_folders_of_splits_is_refused(load, folder):
    for split in ("train", "test"):
        save_numbered(folder / split, 2)
    with pytest.raises(UserError, match=r"test_fraction = 0\.5 would draw others: leave"):
        load(test_fraction=0.5)
    with pytest.raises(UserError, match="seed = 0 would draw others"):
        load(seed=0)


def test_one_bit_and_palettes_are_counted(load, folder):
    save_numbered(folder, 3)
    grey = Image.new("L", (6, 5), 200)
    grey.convert("1").save(folder / "bits.png")
    grey.convert("RGB").quantize(4).save(folder / "palette.png")
    notes = load(channels=3).manifest.notes
    assert "converted: 1 of 1 bit, as values 0 and 255, such as bits.png" in notes
    assert "converted: 1 of a palette, looked up, such as palette.png" in notes


def test_what_cannot_be_read_is_named(load, folder):
    with pytest.raises(UserError, match="There is no folder"):
        load()
    folder.mkdir()
    with pytest.raises(UserError, match="at least one of each"):
        load()
    save_numbered(folder, 3)
    whole = (folder / "001.png").read_bytes()
    for damage in (b"\x89PNG nothing", b"words", b"", whole[:-30]):
        (folder / "001.png").write_bytes(damage)
        with pytest.raises(
            DamagedData,
            match=r"001\.png cannot be decoded \((?!Key).*: save it anew, or take it out\.$",
        ):
            load()


@pytest.mark.parametrize(
    "settings", [{"resize": 0}, {"crop": -1}, {"channels": 5}, {"test_fraction": 0.7}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=f"{next(iter(settings))} = "):
        ImageFolder("pictures", **settings)


def test_a_folder_is_prepared_by_one_command_that_says_how_to_train(folder, tmp_path, capsys):
    save_numbered(folder, 20)
    (folder / "notes.txt").write_text("")
    data_dir = f"--data_dir={tmp_path / 'data'}"
    flags = ["--size=4", "--set", "channels=1", data_dir]
    assert main(["image_folder", "--from", str(folder), *flags]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("image_folder: 18 training and 2 test images of 4×4×1, 256 levels")
    assert "  left out: 1 .txt, such as notes.txt\n" in shown
    words = shlex.split(shown.splitlines()[-1])
    assert words[:3] == ["python", "launch/run.py", "--exp=photos_vp"]
    settings = [word for word in words if "=" in word and not word.startswith("--")]
    made = build(override(registry.configuration_of(registry.find("photos_vp")), settings))
    assert made.data.source == ImageFolder(str(folder), resize=4, crop=4, channels=1)
    assert made.data.held_out == 1
    assert main(["image_folder", data_dir]) == 2
    assert (
        capsys.readouterr().err
        == "image_folder needs the files that it is made of: add --from PATH.\n"
    )
    assert main(["image_folder", "--from", str(folder), "--set", "chanels=1", data_dir]) == 2
    assert "has no field 'chanels': set one of channels, crop" in capsys.readouterr().err
    assert main(["digits", "--size=4"]) == 2
    assert "leave --size and --set out" in capsys.readouterr().err
