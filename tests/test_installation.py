"""What pyproject.toml promises of the wheel agrees with what is pinned and written elsewhere."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import diffusion_ode

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned(name):
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def named(requirements):
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


RANGES = named(map(Requirement, PROJECT["dependencies"]))
DEVELOPMENT = named(map(Requirement, PROJECT["optional-dependencies"]["dev"]))
PINNED = named(pinned("requirements.txt") + pinned("requirements-dev.txt"))


@pytest.mark.parametrize("name", sorted(PINNED))
def test_what_is_pinned_is_within_the_wheel_s_range_or_needed_in_a_checkout_only(name):
    (pin,) = PINNED[name].specifier
    assert pin.operator == "=="
    assert (name in RANGES) != (name in DEVELOPMENT)
    if name in RANGES:
        assert RANGES[name].specifier.contains(pin.version)


def test_a_checkout_needs_nothing_that_is_not_pinned():
    assert DEVELOPMENT.keys() <= PINNED.keys()


def test_the_version_is_the_same_wherever_it_is_written():
    version = diffusion_ode.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and version.startswith(newest[1])


def test_the_readme_is_short_and_its_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 110
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
