"""What files of features claim is not believed, and those that do not end are refused."""

import io
import os
import zipfile

import numpy as np

from tests.bounded import attempts


def header(shape, descr="<f8"):
    said = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said.encode()


def zipped(content, pieces=1):
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("features.npy", "w", force_zip64=True) as member,
    ):
        member.write(content)
        for _ in range(pieces):
            member.write(bytes(1 << 20))
    return file.getvalue()


def test_files_of_features_take_no_more_memory_than_is_said(tmp_path):
    huge = header("(150000, 1024)", "<f4")
    files = {
        "claim.npy": header("(10000000000, 3)"),
        "claim.npz": zipped(header("(10000000000, 3)")),
        "unpacked.npz": zipped(huge, 586),
        "signs.npy": header(f"({'-' * 9000}3, 3)"),
        "boolean.npy": header("(True, 4)"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.npz")
    reads = {
        name: f"read_features(Path({str(tmp_path / name)!r}))" for name in (*files, "pipe.npz")
    }
    imports = "from pathlib import Path; from diffusion_ode.evaluation.features import *"
    found = attempts(imports, reads, megabytes=100)
    assert all(said.startswith("refused: ") for said in found.values()), found
    assert "float32 [150000, 1024] is more than 268435456 bytes" in found["unpacked.npz"]
    assert "no regular file" in found["pipe.npz"]


def test_what_features_are_made_of_is_within_the_bound(tmp_path):
    np.savez_compressed(tmp_path / "black.npz", mu=np.zeros(1500), sigma=np.zeros((1500, 1500)))
    read = {"": f"read_features(Path({str(tmp_path / 'black.npz')!r})).statistics.mean.shape"}
    imports = "from pathlib import Path; from diffusion_ode.evaluation.features import *"
    assert attempts(imports, read, megabytes=600) == {"": "read (1500,)"}
