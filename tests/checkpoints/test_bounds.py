"""What a workdir or a published file claims costs neither memory nor time."""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from diffusion_ode.checkpoints import records
from diffusion_ode.checkpoints.checkpoints import Checkpoints
from tests.bounded import attempts

IMPORTS = """
from pathlib import Path
import jax, jax.numpy as jnp
from diffusion_ode.checkpoints.reference import read_reference
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.coding.container import unpack
from diffusion_ode.configs import documents
from diffusion_ode.evaluation.per_example import read_table
from diffusion_ode.workdir.result_files import read_json
folder = Path({folder!r})

def stored(name, count=3):
    wanted = {{"w": jax.ShapeDtypeStruct((count,), jnp.float32)}}
    return StoredCheckpoints(folder / name, report=lambda _: None).restore(wanted).step
"""
FILES = {
    "read_reference": "not a checkpoint that Flax wrote|no regular file",
    "documents.read": "no regular file",
    "read_json": "no regular file",
    "read_table": "no regular file",
}
HUGE = 10**11


def claiming(folder, count):
    """A checkpoint whose records say, under their seal, that its array has so many elements."""
    path = folder / "1" / "facts" / "metadata"
    found = {
        item: json.loads((folder / "1" / item / "metadata").read_text())
        for item in ("data", "config", "facts")
    }
    found["facts"].pop("seal")
    found["facts"]["leaves"]["w"][1] = [count]
    found["facts"]["seal"] = records._seal(found)
    path.write_text(json.dumps(found["facts"]))


@pytest.fixture
def files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    with Checkpoints(tmp_path / "sound") as checkpoints:
        checkpoints.save(1, {"w": jnp.arange(3.0)}, {"next_index": 0}, {})
    for name in ("pipes", "claims", "deep", "brackets"):
        shutil.copytree(tmp_path / "sound", tmp_path / name)
    (tmp_path / "pipes/1/config/metadata").unlink()
    os.mkfifo(tmp_path / "pipes/1/config/metadata")
    (tmp_path / "deep/1/config/metadata").write_text("[" * 10**6)
    many = "{}," * ((records.MAX_BYTES - 4) // 3)
    (tmp_path / "brackets/1/facts/metadata").write_text(f"[{many}{{}}]")
    claiming(tmp_path / "claims", HUGE)
    content = serialization.msgpack_serialize({"step": np.zeros(3, np.float32)})
    claim = content.replace(b"\x91\x03", b"\x91\xce\x7f\xff\xff\xff")
    (tmp_path / "claims.flax").write_bytes(claim)
    return tmp_path


def test_files_of_workdirs_and_published_ones(files):
    reads = {
        "a sound one": ("stored('sound')", "read 1"),
        "a pipe among the records": ("stored('pipes')", "damaged"),
        "records nested without end": ("stored('deep')", "damaged"),
        "records of brackets alone": ("stored('brackets')", "has more than 262144 items"),
        "arrays that no file holds": (f"stored('claims', {HUGE})", "are said to lie in"),
        "a published file of claims": ("read_reference(folder / 'claims.flax')", "Flax wrote"),
        "a compressed file of claims": ("unpack(b'dOC\\x01' + b'\\xff' * 1000)", "cut off"),
        **{
            f"{read} of {file}": (f"{read}(folder / '{file}')", says)
            for file in ("pipe", "endless")
            for read, says in FILES.items()
        },
    }
    found = attempts(
        IMPORTS.format(folder=str(files)),
        {name: read for name, (read, _) in reads.items()},
        megabytes=600,  # for the threads of JAX's first work
    )
    for name, (_, says) in reads.items():
        assert any(one in found[name] for one in says.split("|")), (name, found[name])
        assert "\n" not in found[name]
