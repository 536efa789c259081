"""Whatever is in a data file, it is read or refused in one sentence."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.formats import restricted_pickle, tfrecord
from data.formats.archive import read_gzip, tar_members, zip_members
from data.formats.fit import FORMATS, Fit, read_header
from data.formats.idx import read_idx_images
from data.formats.numpy_file import npz_kinds, open_npy, read_npz
from data.formats.picture import decode
from data.source import describe_images
from data.sources.array_file import ArrayFile
from data.sources.digits import Digits
from data.store import open_prepared
from tests.mutations import attack, counts

LIMIT = 10**7
IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4, 1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file.npz"


def npy(array=IMAGES) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def zipped(content: bytes, name="images.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.writestr("labels.npy", npy(np.arange(3)))
    return file.getvalue()


def tarred(content: bytes = b"a picture", form=tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name in ("folder/" + "long" * 60, "short"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def with_sums(content: bytes) -> bytes:
    """A tar whose headers all have the right sums."""
    blocks = bytearray(content)
    for start in range(0, len(blocks) - 511, 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            total = sum(blocks[start : start + 512])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


def idx() -> bytes:
    return struct.pack(">4I", 0x803, 6, 4, 4) + IMAGES.tobytes()


def picture(form: str) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


def read_all(members):
    return [member.read() for member in members]


FILES = {
    "npy": (npy(), bytes, open_npy),
    "npz": (zipped(npy()), bytes, lambda file: read_npz(file, "npz", max_bytes=LIMIT)),
    "npz of an altered npy": (npy(), zipped, lambda file: read_npz(file, "npz", max_bytes=LIMIT)),
    "npz listed": (npy(), zipped, npz_kinds),
    "npz as a source": (npy(), zipped, lambda file: ArrayFile(str(file)).load()),
    "zip": (zipped(b"x"), bytes, lambda file: read_all(zip_members(file, max_bytes=LIMIT))),
    "tar": (tarred(), with_sums, lambda file: read_all(tar_members(file, max_bytes=LIMIT))),
    "tar as GNU writes it": (
        tarred(form=tarfile.GNU_FORMAT),
        with_sums,
        lambda file: read_all(tar_members(file, max_bytes=LIMIT)),
    ),
    "tar.gz": (
        gzip.compress(tarred()),
        bytes,
        lambda file: read_all(tar_members(file, max_bytes=LIMIT)),
    ),
    "gzip": (gzip.compress(idx()), bytes, lambda file: read_gzip(file, max_bytes=LIMIT)),
    "idx": (idx(), gzip.compress, lambda file: read_idx_images(file, max_bytes=LIMIT)),
}


@counts
@pytest.mark.parametrize("name", FILES)
def test_files(name, file, count):
    content, wrap, read = FILES[name]

    def attempt(changed):
        file.write_bytes(wrap(changed))
        return read(file)

    attack(content, attempt, count)


@counts
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles(protocol, count):
    batch = {"data": IMAGES[0], "labels": [1, 2, 3], "misc": ("a", None, {1, 2}), b"b": b"bytes"}
    content = pickle.dumps(batch, protocol)
    attack(content, lambda changed: restricted_pickle.load(changed, "batch"), count)


@counts
def test_tfrecords(archives, file, count):
    content = archives.tfrecords([b"first record", b"the second"])

    def read(changed):
        file.write_bytes(changed)
        return list(tfrecord.blocks_of_records(file))

    attack(content, read, count)


@counts
def test_examples(archives, count):
    content = archives.example(picture("PNG"), 3)
    attack(content, lambda changed: tfrecord.example_bytes(changed, "image", "records"), count)


@counts
@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it makes the best of
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_pictures(form, file, count):
    def read(changed):
        file.write_bytes(changed)
        decode(changed, "picture", formats=FORMATS)
        fit = Fit(crop=8, channels=3, eight_bits=True, first_frame=True)
        if fit.problem(read_header(file)) is None:
            return fit.image(file, (8, 8, 3))
        return None

    attack(picture(form), read, count)


@counts
def test_manifests(tmp_path, count):
    source = Digits()
    images = np.zeros((2, 8, 8, 1), np.uint8)
    folder = tmp_path / source.name
    folder.mkdir()
    for split in ("train", "test"):
        np.save(folder / f"{split}.npy", images)
    manifest = describe_images(source, images, images).manifest
    content = json.dumps(manifest.to_json()).encode()

    def read(changed):
        (folder / "manifest.json").write_bytes(changed)
        return open_prepared(source, tmp_path)

    attack(content, read, count)
