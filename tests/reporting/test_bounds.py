"""What a training has logged is read within a bound on memory, whatever is in the file."""

import json
import os

from diffusion_ode.reporting.curves import MAX_VALUES
from tests.bounded import attempts

IMPORTS = """
from pathlib import Path
from diffusion_ode.reporting.curves import logged
from diffusion_ode.reporting.csv_writer import CsvWriter
from diffusion_ode.reporting.jsonl_writer import JsonlWriter

def resumed(writer, folder, step):
    writer.open(Path(folder))
    writer.resume_at(step)
    writer.write_scalars(9, {"a": 1.0})
    return [path.stat().st_size for path in Path(folder).iterdir()]
"""
LONG = b"9" * 10**8  # of one line


def folder(tmp_path, name, content, file="metrics.jsonl"):
    (tmp_path / name).mkdir()
    with (tmp_path / name / file).open("wb") as out:
        for piece in content:
            out.write(piece)
    return f"{str(tmp_path / name)!r}"


def test_no_line_is_taken_whole_and_no_file(tmp_path):
    line = b'{"step": 1, "a": 1.0}\n'
    long = folder(tmp_path, "long", [line, b'{"step": 2, "a": ', LONG, b"}\n", line])
    rows = folder(tmp_path, "rows", [b"step,a\n", b"1,1.0\n" * 400_000], "metrics.csv")
    wide = folder(tmp_path, "wide", [b"step,a\n", b"1,1.0\n", b"2,", LONG], "metrics.csv")
    reads = {
        "long": f"logged(Path({long}))",
        "long resumed": f"resumed(JsonlWriter(), {long}, 5)",
        "rows resumed": f"resumed(CsvWriter(), {rows}, 0)",
        "wide resumed": f"resumed(CsvWriter(), {wide}, 5)",
    }
    found = attempts(IMPORTS, reads, megabytes=70, seconds=60)
    assert found.pop("long") == "read {'a': {1: 1.0}}"
    assert found == {
        "long resumed": f"read [{3 * len(line)}]",
        "rows resumed": "read [13]",
        "wide resumed": "read [19]",
    }


def test_values_and_names_beyond_what_anything_logs_are_refused_within_the_bound(tmp_path):
    each = 2000  # values of a line
    values = ",".join(f'"a{i}":1.5' for i in range(each))
    lines = (f'{{"step":{k},{values}}}\n'.encode() for k in range(MAX_VALUES // each + 1))
    names = (json.dumps({"step": 1, f"{k}": 1.0}).encode() + b"\n" for k in range(10_001))
    longer = [b'{"step": 1, "' + b"a" * 1000 + b'": 1.0}\n']
    reads = {
        name: f"logged(Path({folder(tmp_path, name, content)}))"
        for name, content in (("values", lines), ("names", names), ("longer", longer))
    }
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/metrics.jsonl")
    reads["pipe"] = f"logged(Path({str(tmp_path / 'pipe')!r}))"
    reads["pipe resumed"] = f"resumed(JsonlWriter(), {str(tmp_path / 'pipe')!r}, 5)"
    found = attempts(IMPORTS, reads, megabytes=600, seconds=60)
    assert all(said.startswith("refused: ") for said in found.values()), found
    assert "no regular file" in found["pipe"] and "no regular file" in found["pipe resumed"]
    assert f"more than {MAX_VALUES} values" in found["values"]
