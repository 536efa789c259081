"""A conversion killed at any moment leaves nothing half, and goes on when started again."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data import lock
from data.conversion import Conversion, convert
from data.errors import DamagedData
from data.sources.array_file import ArrayFile
from data.store import is_prepared, open_prepared
from diffusion_ode.errors import UserError

SHAPE = (4, 4, 3)
ROOT = Path(__file__).parents[2]


class Toy:
    name = "toy"
    shape = SHAPE
    levels = 256

    def load(self, data_dir=None):
        return open_prepared(self, data_dir)


def conversion(blocks, sources=(("toy.bin", "sha256:0"),), levels=256):
    counts = {"train": None, "test": None}
    test = [lambda: np.ones((2, *SHAPE), np.uint8)]
    splits = {"train": blocks, "test": test}
    return Conversion("toy", SHAPE, levels, counts, splits, sources, "toy.bin")


def numbered_blocks(count, decoded, fail_at=None):
    """Blocks of different lengths, block k filled with k; notes which were decoded."""

    def block(number):
        def decode():
            if number == fail_at:
                raise KeyboardInterrupt
            decoded.append(number)
            return np.full((number + 1, *SHAPE), number, np.uint8)

        return decode

    return [block(number) for number in range(count)]


def test_interrupted_conversion_goes_on_where_it_was(tmp_path):
    first, second = [], []
    with pytest.raises(KeyboardInterrupt):
        convert(conversion(numbered_blocks(5, first, fail_at=3)), tmp_path)
    assert not is_prepared(tmp_path, "toy") and not (tmp_path / "toy").exists()
    # What a kill in the middle of a block leaves behind the noted progress.
    with (tmp_path / ".toy.partial" / "train.npy").open("ab") as file:
        file.write(b"half a block")
    convert(conversion(numbered_blocks(5, second)), tmp_path)
    assert (first, second) == ([0, 1, 2], [3, 4])
    images = Toy().load(tmp_path)
    expected = np.concatenate([np.full((k + 1, *SHAPE), k, np.uint8) for k in range(5)])
    np.testing.assert_array_equal(images.train, expected)
    assert not (tmp_path / ".toy.partial").exists()


def test_conversion_of_other_files_starts_afresh(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        convert(conversion(numbered_blocks(5, [], fail_at=3)), tmp_path)
    decoded = []
    convert(conversion(numbered_blocks(5, decoded), sources=(("b", "sha256:1"),)), tmp_path)
    assert decoded == [0, 1, 2, 3, 4]


DAMAGED_PROGRESS = {
    "not json": lambda noted: "{",
    "nested": lambda noted: "[" * 100_000,
    "no object": lambda noted: "[]",
    "no split": lambda noted: json.dumps({**noted, "train": None}),
    "text": lambda noted: json.dumps({**noted, "train": {"blocks": "3", "images": 6}}),
    "boolean": lambda noted: json.dumps({**noted, "train": {"blocks": True, "images": 6}}),
    "fraction": lambda noted: json.dumps({**noted, "train": {"blocks": 3, "images": 6.5}}),
    "negative": lambda noted: json.dumps({**noted, "train": {"blocks": 3, "images": -6}}),
    "huge": lambda noted: json.dumps({**noted, "test": {"blocks": 3, "images": 10**300}}),
    "too few blocks": lambda noted: json.dumps({**noted, "train": {**noted["train"], "blocks": 0}}),
    "too many blocks": lambda noted: json.dumps(
        {**noted, "train": {**noted["train"], "blocks": 4}}
    ),
    "too few images": lambda noted: json.dumps({**noted, "train": {**noted["train"], "images": 5}}),
    "no checksum": lambda noted: json.dumps({**noted, "train": {"blocks": 3, "images": 6}}),
    "more than there is": lambda noted: json.dumps({**noted, "test": {"blocks": 1, "images": 1}}),
}


@pytest.mark.parametrize("damage", DAMAGED_PROGRESS)
def test_a_damaged_note_of_progress_is_one_sentence_and_a_fresh_start(damage, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        convert(conversion(numbered_blocks(5, [], fail_at=3)), tmp_path)
    note = tmp_path / ".toy.partial/progress.json"
    note.write_text(DAMAGED_PROGRESS[damage](json.loads(note.read_text())))
    decoded, said = [], []
    convert(conversion(numbered_blocks(5, decoded)), tmp_path, said.append)
    assert decoded == [0, 1, 2, 3, 4]
    assert [line for line in said if "progress.json is damaged" in line] == said[:1]
    assert len(said[0]) < 600 and "\n" not in said[0]
    assert len(Toy().load(tmp_path).train) == 15


@pytest.mark.parametrize("name", ["", ".toy.partial", ".toy.lock"])
def test_what_is_in_the_way_of_a_conversion_is_named(name, tmp_path):
    place = tmp_path / "data" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    (Path.mkdir if place.suffix == ".lock" else Path.touch)(place)
    with pytest.raises(UserError, match=r"is in the way .*: move it elsewhere") as refusal:
        convert(conversion(numbered_blocks(2, [])), tmp_path / "data")
    assert str(refusal.value).startswith(f"{place} is")


def test_a_file_that_may_not_grow_is_said_and_gone_on_with(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    said, decoded = [], []
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
        with pytest.raises(UserError, match=r"cannot be written to \(File too large\): make room"):
            convert(conversion(numbered_blocks(5, decoded)), tmp_path, said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    convert(conversion(numbered_blocks(5, decoded)), tmp_path)
    assert len(Toy().load(tmp_path).train) == 15
    assert decoded.count(0) == 1  # was on disk


def test_what_a_source_cannot_be_read_for_is_not_blamed_on_the_data_folder(tmp_path):
    def gone():
        return (tmp_path / "pictures/gone.png").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        convert(conversion([gone]), tmp_path / "data")


def test_images_that_are_not_those_that_were_written_are_a_fresh_start(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        convert(conversion(numbered_blocks(5, [], fail_at=3)), tmp_path)
    with (tmp_path / ".toy.partial/train.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    decoded, said = [], []
    convert(conversion(numbered_blocks(5, decoded)), tmp_path, said.append)
    assert decoded == [0, 1, 2, 3, 4]
    assert "the 6 train images in train.npy are others" in said[0]
    assert Toy().load(tmp_path).train.max() == 4


def test_values_and_shapes_outside_the_rules_leave_nothing(tmp_path):
    for blocks, levels, message in (
        ([lambda: np.full((2, *SHAPE), 17, np.uint8)], 17, "at most 16"),
        ([lambda: np.zeros((2, 4, 4, 1), np.uint8)], 256, r"uint8 \(4, 4, 3\)"),
        ([lambda: np.zeros((2, *SHAPE), np.float32)], 256, r"uint8 \(4, 4, 3\)"),
        ([], 256, "at least one"),
    ):
        with pytest.raises(DamagedData, match=message):
            convert(conversion(blocks, levels=levels), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".toy.lock"]


def test_damaged_manifest_and_foreign_folder_are_explained(tmp_path):
    convert(conversion(numbered_blocks(2, [])), tmp_path)
    manifest = tmp_path / "toy" / "manifest.json"
    text = manifest.read_text()
    for broken in ("", "{}", text.replace("256", "17"), text.replace('"toy"', '"other"')):
        manifest.write_text(broken)
        with pytest.raises(DamagedData, match=r"manifest\.json .* prepare it again"):
            Toy().load(tmp_path)
    manifest.unlink()
    with pytest.raises(UserError, match="is in the way"):
        convert(conversion(numbered_blocks(2, [])), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_explained(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="--data_dir"):
        convert(conversion(numbered_blocks(2, [])), tmp_path / "data")


SLOW_CONVERSION = """
import sys, time
from pathlib import Path
import numpy as np
from data import lock
from data.conversion import Conversion, convert

def block(number):
    def decode():
        print(number, flush=True)
        time.sleep(0.01)
        return np.full((100, 4, 4, 3), number, np.uint8)
    return decode

blocks = {"train": [block(k) for k in range(20)], "test": [block(20)]}
counts = {"train": 2000, "test": 100}
toy = Conversion("toy", (4, 4, 3), 256, counts, blocks, (("f", "sha256:0"),), "f")
convert(toy, Path(sys.argv[1]))
"""


def test_conversion_killed_at_random_moments_ends_up_whole(tmp_path):
    command = [sys.executable, "-c", SLOW_CONVERSION, str(tmp_path)]
    decoded = []
    for attempt in range(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        if attempt < 3:  # Wait until it is under way, then kill at a moment of its own.
            decoded.append(int(process.stdout.readline()))
            time.sleep(0.005 * (attempt + 1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not (tmp_path / "toy").exists() or is_prepared(tmp_path, "toy")
        else:
            decoded += [int(line) for line in process.stdout]
            assert process.wait() == 0
            break
        process.stdout.close()
    images = Toy().load(tmp_path)
    np.testing.assert_array_equal(images.train[:, 0, 0, 0], np.repeat(np.arange(20), 100))
    np.testing.assert_array_equal(images.test[:, 0, 0, 0], np.full(100, 20))
    assert decoded == sorted(decoded)  # It never went back further than the block in work.


def test_a_second_conversion_waits_for_the_first_and_says_so(tmp_path):
    said, begun = [], threading.Event()

    def slow():
        begun.set()
        while not said:
            time.sleep(0.01)
        return np.zeros((1, *SHAPE), np.uint8)

    first = threading.Thread(target=convert, args=(conversion([slow]), tmp_path))
    first.start()
    begun.wait()
    convert(conversion([pytest.fail]), tmp_path, said.append)
    first.join()
    assert is_prepared(tmp_path, "toy")
    assert said == [
        f"waiting, up to 60 minutes, for another process that prepares toy in {tmp_path} …"
    ]


def test_a_second_conversion_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(lock, "_BETWEEN_LOOKS", 0.01)
    with (
        lock.waiting_lock(tmp_path, "toy", pytest.fail),
        pytest.raises(UserError, match=r"Waited 0 minutes for another .* toy .*--data_dir"),
    ):
        convert(conversion(numbered_blocks(2, [])), tmp_path)


def test_array_file_is_a_source_of_its_own(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 5, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", images)
    source = ArrayFile(str(tmp_path / "mine.npy"))
    assert (source.name, source.shape, source.levels) == ("mine", (5, 6, 3), 256)
    loaded = source.load()
    np.testing.assert_array_equal(np.concatenate([loaded.train, loaded.test]), images)
    assert len(loaded.test) == 3


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", ["train.npy", "progress.tmp", "manifest.tmp"])
def test_a_conversion_writes_through_no_link_and_waits_for_no_pipe(kind, name, tmp_path):
    (tmp_path / "precious").write_text("much work")
    with pytest.raises(KeyboardInterrupt):  # nothing of it is written yet
        convert(conversion(numbered_blocks(2, [], fail_at=0)), tmp_path)
    partial = tmp_path / ".toy.partial"
    nothing = hashlib.sha256(b"0 blocks, 0 images").hexdigest()
    note = {"blocks": 0, "images": 0, "checksum": nothing}
    sources = [["a", "sha256:0"]]
    (partial / "progress.json").write_text(
        json.dumps({"sources": sources, "train": note, "test": note})
    )
    (partial / name).unlink(missing_ok=True)
    if kind == "link":
        (partial / name).symlink_to(tmp_path / "precious")
    else:
        os.mkfifo(partial / name)
    convert(conversion(numbered_blocks(2, [])), tmp_path)
    assert (tmp_path / "precious").read_text() == "much work"
    assert len(Toy().load(tmp_path).train) == 3
