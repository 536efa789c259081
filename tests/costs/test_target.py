"""Compiling for a TPU slice: what can go wrong before it, and a slice if there is a compiler."""

import importlib.util

import pytest

from diffusion_ode.costs import target
from diffusion_ode.costs.devices import find_device
from diffusion_ode.errors import UserError

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "libtpu==[\d.]+\*"'):
        target.slice_devices("v5e:2x4")


@needs_compiler
@pytest.mark.parametrize(
    "name",
    [
        *("", "nope", "v9z:2x2", "v5e", "V5E:2x4", "v5e:nonsense", "v5e:2x3", "v5e:4x2"),
        *("v5e:2x4x2", "v5e:32x32", "v6e:2x2x2", "v5p:2x2", "v5p:3x3x3"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused_in_one_sentence(name):
    with pytest.raises(UserError, match=r"(There is no TPU slice|is empty).*such as v") as caught:
        target.slice_devices(name)
    assert "\n" not in str(caught.value)


@needs_compiler
@pytest.mark.parametrize(("name", "chips"), [("v5e:4x4", 16), ("v4:2x2x1", 4), ("v5p:2x2x2", 8)])
def test_a_slice_has_a_device_for_each_chip(name, chips):
    assert len(target.slice_devices(name)) == chips


def test_what_is_too_large_by_its_areas_only_is_not_called_either():
    v5e = find_device("v5e")

    def said(**bytes_needed):
        return target.TargetStep(v5e, 1.0, **bytes_needed).fits

    assert said(temporary=10**10, peak=10**10) == "fits"
    assert said(temporary=18 * 10**9, peak=14 * 10**9) == "may fit"
    assert said(temporary=18 * 10**9, peak=17 * 10**9) == "does not fit"
    assert said(too_large="no room") == "does not fit"
