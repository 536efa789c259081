"""docs/mathematics.md names the tests that check it: they exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "mathematics.md").read_text()


def test_every_test_that_the_document_names_exists():
    named = set(re.findall(r"::(test_\w+)", DOCUMENT))
    written = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert len(named) >= 15
    assert named <= written, named - written


def test_every_file_that_the_document_names_exists():
    files = set(re.findall(r"(?:tests|diffusion_ode|docs)/[\w/]+\.py", DOCUMENT))
    assert files
    assert all((ROOT / file).is_file() for file in files)
