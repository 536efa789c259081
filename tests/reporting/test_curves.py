"""What a training has logged, of a file that may hold anything."""

import os

import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.reporting.curves import logged
from tests.mutations import NO_OBJECTS

WHOLE = b'{"step": 1, "train/bpd": 5.5, "train/rate": null}\n'


@pytest.mark.parametrize(
    "line",
    [
        *NO_OBJECTS,
        b'{"step": 2, "train/bpd": "x"}',
        b'{"step": 2, "train/bpd": []}',
        b'{"step": 2, "train/bpd": 1' + b"0" * 400 + b"}",
        b'{"step": 1e999, "train/bpd": 2.0}',
        b'{"step": "x", "train/bpd": 2.0}',
        b'{"step": null, "train/bpd": 2.0}',
        b'{"train/bpd": 2.0}',
    ],
)
def test_a_line_that_is_not_whole_counts_for_nothing(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(WHOLE + line + b"\n" + WHOLE.replace(b"1", b"3"))
    assert logged(tmp_path) == {"train/bpd": {1: 5.5, 3: 5.5}}


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match="no regular file"):
        logged(tmp_path)
