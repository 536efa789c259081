"""docs/mathematics.md names the tests that check it: they exist, in the files it names."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "mathematics.md").read_text()


def named_tests(text):
    """(file, test) of every mention; `…::` stands for the file of the mention before it."""
    file = None
    for path, name in re.findall(r"`(…|tests/[\w/]+\.py)(?:::(test_\w+))?`", text):
        file = file if path == "…" else path
        if name:
            yield file, name


def test_every_test_that_the_document_names_is_in_the_file_it_names():
    named = set(named_tests(DOCUMENT))
    assert len(named) >= 15
    assert len({name for _, name in named}) == len(set(re.findall(r"::(test_\w+)", DOCUMENT)))
    for file, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), (file, name)


def test_a_test_named_in_another_file_is_noticed():
    text = "`tests/a.py::test_one`, `…::test_two`; `tests/b.py`: `…::test_three`"
    expected = [
        ("tests/a.py", "test_one"),
        ("tests/a.py", "test_two"),
        ("tests/b.py", "test_three"),
    ]
    assert list(named_tests(text)) == expected


def test_every_file_that_the_document_names_exists():
    files = set(re.findall(r"(?:tests|diffusion_ode|docs)/[\w/]+\.py", DOCUMENT))
    assert files
    assert all((ROOT / file).is_file() for file in files)
