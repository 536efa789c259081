"""Compiling for a TPU slice: what can go wrong before it, and a slice if there is a compiler."""

import importlib.util

import pytest

from diffusion_ode.costs import target
from diffusion_ode.errors import UserError

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "libtpu==[\d.]+\*"'):
        target.slice_devices("v5e:2x4")


@needs_compiler
@pytest.mark.parametrize("name", ["v5e:nonsense", "nope", "v5e:2x3", "v9z:2x2", ""])
def test_a_slice_that_does_not_exist_is_refused_in_one_sentence(name):
    with pytest.raises(UserError, match=r"There is no TPU slice .*such as v5e:2x4") as caught:
        target.slice_devices(name)
    assert "\n" not in str(caught.value)


@needs_compiler
def test_a_slice_has_its_devices():
    assert len(target.slice_devices("v5e:4x4")) == 16
