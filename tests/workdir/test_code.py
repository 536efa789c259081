"""Results name the code that made them."""

import subprocess

import pytest

from diffusion_ode import __version__, outside
from diffusion_ode.errors import UserError
from diffusion_ode.workdir import code
from diffusion_ode.workdir.code import code_facts, code_in
from diffusion_ode.workdir.provenance import recorded
from diffusion_ode.workdir.result_files import read_json


def git(folder, *arguments):
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "diffusion_ode").mkdir(parents=True)
    (folder / "diffusion_ode" / "__init__.py").write_text("a = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout_is_its_revision(checkout, tmp_path):
    found = code_in(checkout)
    revision = git(checkout, "rev-parse", "HEAD")
    expected = {"version": __version__, "revision": revision, "modified": False, "diff": None}
    assert found.facts() == expected
    found.keep_changes(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_changes_are_kept_beside_the_run(checkout, tmp_path):
    (checkout / "diffusion_ode" / "__init__.py").write_text("a = 2\n")
    (checkout / "new.py").write_text("")
    found = code_in(checkout)
    assert found.facts()["modified"]
    found.keep_changes(tmp_path)
    text = (tmp_path / found.facts()["diff"]).read_text()
    assert "-a = 1\n+a = 2\n" in text and "?? new.py" in text
    (checkout / "diffusion_ode" / "__init__.py").write_text("a = 3\n")
    assert code_in(checkout).facts()["diff"] != found.facts()["diff"]


def test_of_large_changes_the_beginning_is_kept(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(code, "MAX_DIFF_BYTES", 50)
    (checkout / "diffusion_ode" / "__init__.py").write_bytes(b"\xe9" * 100)
    found = code_in(checkout)
    found.keep_changes(tmp_path)
    first, last = (tmp_path / found.facts()["diff"]).read_bytes()[:50], b"bytes more\n"
    assert first.startswith(b" M diffusion_ode/__init__.py\n")
    assert (tmp_path / found.facts()["diff"]).read_bytes().endswith(last)


def test_a_package_outside_any_checkout_says_so(tmp_path, monkeypatch):
    (tmp_path / "diffusion_ode").mkdir()
    (tmp_path / "diffusion_ode" / "__init__.py").write_text("")
    assert code_in(tmp_path).facts()["revision"] is None
    assert "is no checkout" in code_in(tmp_path).facts()["unknown"]
    git(tmp_path, "init", "-q")  # of somebody else, around an installed package
    assert "is no checkout" in str(code_in(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert "git does not answer" in code_in(tmp_path).facts()["unknown"]


def test_a_launch_names_its_code(tmp_path):
    with recorded(tmp_path, task="train"):
        pass
    (launch,) = read_json(tmp_path / "run.json")["launches"]
    assert launch["code"] == code_facts()


def test_a_module_from_outside_is_kept_as_it_was_when_it_was_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "SOURCES", {})
    monkeypatch.setattr(outside, "SOURCES", code.SOURCES)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_my_own.py").write_text("a = 1\n")
    outside.outside_module("of_my_own:a", "piece")
    (tmp_path / "of_my_own.py").write_text("a = 2\n")
    with recorded(tmp_path / "run", task="train"):
        pass
    (launch,) = read_json(tmp_path / "run" / "run.json")["launches"]
    kept = launch["code"]["outside"]["of_my_own"]
    assert (tmp_path / "run" / kept).read_text() == "a = 1\n"
    assert code.read_kept(tmp_path / "run", "of_my_own", launch["code"]) == b"a = 1\n"
    assert code.read_kept(tmp_path / "run", "another", launch["code"]) is None
    (tmp_path / "run" / kept).write_text("a = 3\n")
    with pytest.raises(UserError, match="is not as the run kept it"):
        code.read_kept(tmp_path / "run", "of_my_own", launch["code"])
