"""Which run of a tracker a training goes on with."""

import json

import pytest

from diffusion_ode.reporting.tracked_run import TrackedRun
from tests.mutations import NO_OBJECTS


@pytest.mark.parametrize("content", [*NO_OBJECTS, b'{"id": "a", "sent": {"x": []}}'])
def test_damaged_file_begins_a_new_run_and_is_kept(tmp_path, content, capsys):
    path = tmp_path / "wandb.json"
    path.write_bytes(content)
    TrackedRun(path)
    assert TrackedRun(path).begin(lambda: "new") == "new"
    assert json.loads(path.read_text()) == {"id": "new", "sent": {}}
    (kept,) = tmp_path.glob("wandb.json.damaged-*")
    assert kept.read_bytes() == content
    assert capsys.readouterr().err.count(f"{kept.name}.\n") == 2
