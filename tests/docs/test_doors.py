"""Each door's page shows the stranger that the tests take through it."""

import re

import pytest

from docs import doors

GOAL = 40  # lines


def test_the_pages_are_as_the_script_writes_them():
    stale = [path.name for path, text in doors.files().items() if path.read_text() != text]
    assert not stale, f"python docs/doors.py, for {stale}"


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_door_takes_one_file_and_one_command(door):
    page = (doors.PAGES / f"{door}.md").read_text()
    assert re.findall(r"^```(\w+)$", page, re.MULTILINE) == ["python", "console"]
    assert f"--exp=my_{door}:" in page
    assert doors.lines(door) <= GOAL


def test_no_file_of_the_program_knows_a_stranger():
    assert doors.edits() == []
