"""The table of devices, and the peak of this one."""

import pytest

from diffusion_ode.costs import devices
from diffusion_ode.costs.devices import DEVICES, find_device, of_kind
from diffusion_ode.errors import UserError


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_every_device_is_found_by_its_name_and_its_kind(device):
    assert find_device(device.name) is device
    assert of_kind(device.kind) is device
    assert device.float32 <= device.bfloat16


def test_kinds_are_told_apart_as_jax_spells_them():
    assert of_kind("TPU v5 lite").name == "v5e"
    assert of_kind("TPU v5").name == "v5p"
    assert of_kind("NVIDIA H100 80GB HBM3").name == "h100"
    assert of_kind("NVIDIA L4").name == "l4"
    assert of_kind("NVIDIA L40S") is None
    assert of_kind("abacus") is None


def test_an_unknown_device_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean h100"):
        find_device("h10")


def test_the_peak_of_a_cpu_is_measured_once():
    devices.measured_peak.cache_clear()
    peak = devices.peak_flops()
    assert peak > 1e8
    assert devices.peak_flops() == peak
