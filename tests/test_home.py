"""A user who has no home directory, as in a container."""

import os
import pwd

import pytest

from data.location import resolve_data_dir
from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel
from diffusion_ode.training.origins import parse_origin
from launch.compilation_cache import keep_compilations


@pytest.fixture(autouse=True)
def homeless(monkeypatch):
    def nobody(_):
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("DIFFUSION_ODE_DATA", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def test_what_is_compiled_is_kept_elsewhere(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_compilations()
    assert "diffusion_ode-" in os.environ["JAX_COMPILATION_CACHE_DIR"]


def test_data_need_a_folder_that_is_named(tmp_path):
    assert resolve_data_dir(tmp_path) == tmp_path
    with pytest.raises(UserError, match=r"no home directory: name .* by --data_dir=DIR or \$DIFF"):
        resolve_data_dir()


@pytest.mark.parametrize("path", ["~/run", "~no_such_user/run"])
def test_a_tilde_is_refused_in_a_sentence(path):
    for load in (DiffusionModel.load, parse_origin):
        with pytest.raises(UserError, match="no such home directory: write the path without ~"):
            load(path)
