"""What a small file claims costs neither memory nor time: each reader has a bound on both."""

import gzip
import os
import re
import struct
import tarfile
import zipfile

import pytest

from tests.bounded import attempts

ZEROS = bytes(100_000_000)
IMPORTS = """
from pathlib import Path
from data.checksum import file_checksum
from data.formats.archive import read_gzip, tar_members, zip_members
from data.formats.idx import read_idx_images
from data.formats.numpy_file import npz_kinds, open_npy, read_npz
from data.formats.tfrecord import blocks_of_records
from data.sources import cifar10

folder = Path({folder!r})
limit = dict(max_bytes=10**9)

def members(name):
    return sum(len(each.read()) for each in list(zip_members(folder / name, **limit)))
def tar(name):
    return sum(len(each.read()) for each in tar_members(folder / name, **limit))
def npz(name):
    return read_npz(folder / name, name, **limit)
def records(path):
    return sum(map(len, blocks_of_records(folder / path)))
def cifar(path):
    return [block() for block in cifar10.read(path).train]
"""


def claiming(path, name, content, claim, packing=zipfile.ZIP_DEFLATED):
    """A zip whose headers say that a member has fewer bytes than it has."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr(name, content)
    packed, real = path.read_bytes(), struct.pack("<I", len(content))
    assert packed.count(real) >= 2
    path.write_bytes(packed.replace(real, struct.pack("<I", claim)))


def npy(header: bytes, version=b"\x01\x00", length: bytes | None = None) -> bytes:
    return b"\x93NUMPY" + version + (length or struct.pack("<H", len(header))) + header


IMAGES = npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 9, 9, 1), }\n")


def tar(path, *entries, content=b""):
    """A tar of the blocks of these entries."""
    blocks = b"".join(
        entry.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512) for entry, data in entries
    )
    path.write_bytes(gzip.compress(blocks + content + bytes(1024), 1))


def entry(kind, size, name="x"):
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    return made


def pax(keyword, value):
    record = f" {keyword}={value}\n"
    length = len(record) + 2
    return f"{length}{record}".encode()


@pytest.fixture
def files(tmp_path, archives):
    claiming(tmp_path / "claim.zip", "val_data", ZEROS, 1000)
    claiming(tmp_path / "claim.npz", "images.npy", IMAGES + ZEROS, 1000)
    long_header = npy(ZEROS, b"\x02\x00", struct.pack("<I", len(ZEROS)))
    claiming(tmp_path / "header.npz", "images.npy", long_header, 1000)
    (tmp_path / "header.npy").write_bytes(npy(b"", b"\x02\x00", b"\xff" * 4))
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("val_data", b"any")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"x")
    with zipfile.ZipFile(tmp_path / "list.zip", "w") as archive:
        for number in range(70):
            archive.writestr(zipfile.ZipInfo(f"{number}" + "x" * 65_000), b"x")
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(ZEROS, 1))
    tar(tmp_path / "pax.tar.gz", (entry(tarfile.XHDTYPE, len(ZEROS)), ZEROS))
    size = pax("size", "-1024")
    backwards = (entry(tarfile.XHDTYPE, len(size)), size), (entry(tarfile.REGTYPE, 0), b"")
    tar(tmp_path / "backwards.tar.gz", *backwards)
    names = (entry(tarfile.GNUTYPE_LONGNAME, 2), b"x\0")
    tar(tmp_path / "names.tar.gz", *(names,) * 20_000)
    marks = pax("GNU.sparse.major", "1") + pax("GNU.sparse.minor", "0")
    numbers = b"2000000\n" + b"1\n" * 4_000_000
    sparse = (entry(tarfile.XHDTYPE, len(marks)), marks), (entry(tarfile.REGTYPE, 1), numbers)
    tar(tmp_path / "sparse.tar.gz", *sparse)
    (tmp_path / "empty.idx").write_bytes(struct.pack(">4I", 0x803, 0, 2**32 - 1, 2**32 - 1))
    records = [bytes(10_000_000), *(b"",) * 1023]
    (tmp_path / "long.tfrecord").write_bytes(archives.tfrecords(records))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    return tmp_path


READS = {
    "zip member of more than it says": ("members('claim.zip')", "damaged 'val_data'"),
    "zip of another packing": ("members('lzma.zip')", "packed by method 14"),
    "zip with a list of megabytes": ("members('list.zip')", "list of members"),
    "zip of many members": ("members('many.zip')", "read 20000"),
    "npz member of more than it says": ("npz('claim.npz')", "damaged 'images.npy'"),
    "npz header of more than it says": ("npz('header.npz')", "damaged 'images.npy'"),
    "npz listed": ("npz_kinds(folder / 'header.npz')", "damaged 'images.npy'"),
    "npy header that claims 4 GB": ("open_npy(folder / 'header.npy')", "a header of 42949"),
    "gzip of zeros": ("read_gzip(folder / 'zeros.gz', max_bytes=10**6)", "more than 1000000"),
    "tar with a large pax header": ("tar('pax.tar.gz')", "a header of 100000000 bytes"),
    "tar that goes back": ("tar('backwards.tar.gz')", "ends before it begins"),
    "tar of names of names": ("tar('names.tar.gz')", "cannot be unpacked"),
    "tar with a sparse file": ("tar('sparse.tar.gz')", "is sparse"),
    "idx without images": ("read_idx_images(folder / 'empty.idx', max_bytes=100)", "whole idx"),
    "records of unequal lengths": ("records('long.tfrecord')", "read 1024"),
    **{
        f"{reader} of {file}": (f"{reader}(folder / '{file}'{bound})", "no regular file")
        for file in ("pipe", "endless")
        for reader, bound in {
            "file_checksum": "",
            "read_gzip": ", max_bytes=100",
            "open_npy": "",
            "npz_kinds": "",
            "records": "",
            "cifar": "",
        }.items()
    },
}


def test_small_files_cost_neither_memory_nor_time(files):
    found = attempts(
        IMPORTS.format(folder=str(files)),
        {name: read for name, (read, _) in READS.items()},
        megabytes=64,
    )
    for name, (_, says) in READS.items():
        assert re.search(says, found[name]), (name, found[name])
        assert "\n" not in found[name]
