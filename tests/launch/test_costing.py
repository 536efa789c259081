"""What --describe says of costs, and how --device and --target are refused."""

import importlib.util

import pytest

from diffusion_ode.errors import UserError
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import override
from launch import flags
from launch.costing import compiled_for, costs


def experiment(*settings):
    config = registry.configuration_of(registry.find("cifar10_vp"))
    return build(override(config, ["model.network.blocks=1", *settings]))


def test_costs_fit_the_screen_and_state_their_assumptions():
    lines = list(costs(experiment("mesh.fsdp=4"), None))
    assert max(map(len, lines)) <= 80
    said = "\n".join(lines)
    for words in ("mesh data 1 × fsdp 4", "4 h100", "4 v5e", "assumed: 40 %", "activations"):
        assert words in said


def test_what_does_not_fit_is_said_with_what_makes_it_fit():
    settings = ("model.network.blocks=32", "train.batch_size=128")
    said = "\n".join(costs(experiment(*settings), "a100"))
    assert "needs 81.9 GB of 80 GB" in said
    assert "accumulation=2     remat=keep_products()  a100:2" in said
    for setting, device in (
        ("train.accumulation=2", "a100"),
        ("model.network.remat=keep_products()", "a100"),
        ("train.accumulation=1", "a100:2"),
    ):
        assert "needs" not in "\n".join(costs(experiment(*settings, setting), device))


def test_a_device_and_its_number_can_be_chosen():
    lines = list(costs(experiment(), "h100:8"))
    assert sum(line.startswith("  8 h100") for line in lines) == 1
    assert "mesh data 8 × fsdp 1" in "\n".join(lines)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("h10", "did you mean h100"),
        ("h100:", "say h100:8"),
        ("h100:many", "say h100:8"),
        ("h100:7", "train.batch_size = 128 is not a multiple of 7"),
    ],
)
def test_devices_that_cannot_be_are_refused(device, says):
    with pytest.raises(UserError, match=says):
        list(costs(experiment(), device))


@pytest.mark.parametrize("flag", ["--device=h100", "--target=v5e:2x4"])
def test_flags_of_describe_are_refused_without_it(flag):
    with pytest.raises(UserError, match="belongs to --describe"):
        flags.read(["--exp=digits_vp", flag])


def test_a_device_beside_a_target_is_refused_since_nothing_would_be_said_of_it():
    with pytest.raises(UserError, match="give one of the two"):
        flags.read(["--exp=digits_vp", "--describe", "--target=v5e:2x4", "--device=nonsense"])


def test_a_target_without_its_compiler_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        next(compiled_for(experiment(), "v5e:2x4"))
