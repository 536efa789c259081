"""What there is to compute on, and what is said where there is none."""

import jax
import numpy as np
import pytest

from diffusion_ode import backend
from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel
from launch.run import main
from tests.published_checkpoint import small_model


@pytest.mark.parametrize("flags", [["--describe"], []])
def test_a_platform_without_devices_is_one_sentence(flags, monkeypatch, capsys, tmp_path):
    def no_device():  # as JAX does it for JAX_PLATFORMS=cuda
        raise AssertionError

    monkeypatch.setattr(jax, "devices", no_device)
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cuda")
    workdir = tmp_path / "run"
    assert main(["--exp=digits_vp", f"--workdir={workdir}", *flags]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "JAX finds no device for JAX_PLATFORMS=cuda on this machine: unset it to take what there"
        " is, set it to cpu, or install JAX for that device as BUILD.md says.\n"
    )
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("flags", "devices", "takes_turns"),
    [
        ("--xla_force_host_platform_device_count=8", -1, True),
        ("", 2, True),
        ("--xla_force_host_platform_device_count=1", -1, False),
        ("", -1, False),
    ],
)
def test_virtual_devices_take_turns(flags, devices, takes_turns, monkeypatch):
    asked = {}
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(type(jax.config), "jax_num_cpu_devices", devices)
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    backend.take_turns()
    assert asked == ({"jax_cpu_enable_async_dispatch": False} if takes_turns else {})
    assert ("terminate_timeout" in backend.os.environ["XLA_FLAGS"]) == takes_turns


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: jax.jit(lambda x: model.log_prob(x).nats)(x),
        lambda model, x: jax.vmap(lambda x: model.log_prob(x).nats)(x),
        lambda model, x: jax.grad(lambda x: model.log_prob(x).nats.sum())(x.astype(np.float32)),
        lambda model, x: jax.jit(lambda: model.log_prob(x).nats)(),
        lambda model, x: jax.jit(lambda key: model.sample(1, key).images)(jax.random.key(0)),
        lambda model, x: jax.jit(model.compress)(x),
    ],
)
def test_what_the_host_drives_is_no_part_of_a_compiled_program(call):
    model, images = DiffusionModel(small_model(), {}), np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(UserError, match=r"cannot be part of jax\.jit, jax\.grad or jax\.vmap"):
        call(model, images)


def test_a_level_that_the_user_has_chosen_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert backend.training_options() is None
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    assert backend.training_options() == {"xla_backend_optimization_level": 1}
    with backend.compiling_for("tpu"):
        assert backend.training_options() is None
