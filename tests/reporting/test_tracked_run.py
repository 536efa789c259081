"""Which run of a tracker a training goes on with."""

import json

import pytest

from diffusion_ode.reporting.tracked_run import TrackedRun
from tests.mutations import NO_OBJECTS


@pytest.mark.parametrize("content", [*NO_OBJECTS, b'{"id": "a", "sent": {"x": []}}'])
def test_damaged_file_begins_a_new_run(tmp_path, content):
    path = tmp_path / "wandb.json"
    path.write_bytes(content)
    assert TrackedRun(path).begin(lambda: "new") == "new"
    assert json.loads(path.read_text()) == {"id": "new", "sent": {}}
