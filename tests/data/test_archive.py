"""Archives that would harm an extraction are refused as a whole."""

import gzip
import io
import stat
import tarfile
import zipfile

import pytest

from data.errors import DamagedData
from data.formats.archive import read_gzip, tar_members, zip_members

NAMES_THAT_LEAD_OUT = [
    "/etc/passwd",
    "../outside",
    "folder/../../outside",
    "..",
    "C:\\windows\\system.ini",
    "\\\\server\\share",
    "folder\\..\\..\\outside",
]


def read_all(members):
    return {member.name: member.read() for member in members}


@pytest.mark.parametrize("name", NAMES_THAT_LEAD_OUT)
def test_tar_with_path_that_leads_out_is_refused(name, archives, tmp_path):
    path = archives.tar(tmp_path / "a.tar.gz", {"good": b"1", name: b"2"})
    with pytest.raises(DamagedData, match="paths inside the archive only"):
        read_all(tar_members(path, max_bytes=10**6))


@pytest.mark.parametrize("name", NAMES_THAT_LEAD_OUT)
def test_zip_with_path_that_leads_out_is_refused(name, archives, tmp_path):
    path = archives.zip(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(DamagedData, match="paths inside the archive only"):
        read_all(zip_members(path, max_bytes=10**6))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "pipe"],
)
def test_tar_with_link_or_device_is_refused(kind, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("data_batch_1.bin")
        entry.type = kind
        entry.linkname = "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(DamagedData, match="no regular file"):
        read_all(tar_members(path, max_bytes=10**6))


def test_zip_with_a_member_without_a_name_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"1")
    with pytest.raises(DamagedData, match="a member called ''"):
        read_all(zip_members(path, max_bytes=10**6))


def test_zip_with_link_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("val_data")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(DamagedData, match="no regular file"):
        read_all(zip_members(path, max_bytes=10**6))


def test_archives_that_unpack_to_too_much_are_refused(archives, tmp_path):
    zeros = {"zeros": bytes(10**6)}
    tar = archives.tar(tmp_path / "a.tar.gz", zeros)
    zipped = archives.zip(tmp_path / "a.zip", zeros)
    for members in (tar_members(tar, max_bytes=10**5), zip_members(zipped, max_bytes=10**5)):
        with pytest.raises(DamagedData, match="unpacks to more than 100000 bytes"):
            read_all(members)
    compressed = tmp_path / "a.gz"
    compressed.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(DamagedData, match="unpacks to more than 100000 bytes"):
        read_gzip(compressed, max_bytes=10**5)


def test_tar_with_huge_header_is_refused_before_it_is_unpacked(tmp_path):
    """A pax header is read by tarfile itself, so the bound must hold below it."""
    path = tmp_path / "a.tar.gz"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        entry = tarfile.TarInfo("pax")
        entry.type = tarfile.XHDTYPE
        entry.size = 10**7
        archive.addfile(entry, io.BytesIO(bytes(10**7)))
    path.write_bytes(gzip.compress(content.getvalue()))
    with pytest.raises(DamagedData, match="unpacks to more than 1000000 bytes"):
        read_all(tar_members(path, max_bytes=10**6))


def test_encrypted_and_damaged_zips_are_refused(archives, tmp_path):
    path = archives.zip(tmp_path / "a.zip", {"val_data": b"content " * 100})
    content = bytearray(path.read_bytes())
    position = content.index(b"val_data") + len("val_data") + 5
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DamagedData, match="damaged 'val_data'"):
        read_all(zip_members(path, max_bytes=10**6))
    path.write_bytes(content[:50])
    with pytest.raises(DamagedData, match="a whole zip archive"):
        read_all(zip_members(path, max_bytes=10**6))
    path = archives.zip(tmp_path / "a.zip", {"val_data": b"content"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DamagedData, match="encrypted"):
        read_all(zip_members(path, max_bytes=10**6))


def test_good_archives_give_their_files(archives, tmp_path):
    files = {"folder/a": b"1" * 1000, "folder/b": b""}
    tar = archives.tar(tmp_path / "a.tar.gz", files)
    plain = archives.tar(tmp_path / "a.tar", files, "w")
    zipped = archives.zip(tmp_path / "a.zip", files)
    assert read_all(tar_members(tar, max_bytes=10**5)) == files
    assert read_all(tar_members(plain, max_bytes=10**5)) == files
    assert read_all(zip_members(zipped, max_bytes=10**5)) == files
