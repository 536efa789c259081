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
    assert of_kind("NVIDIA L40S").name == "l40s"
    assert of_kind("NVIDIA L400") is None
    assert of_kind("NVIDIA GH200 480GB").name == "gh200"
    assert of_kind("NVIDIA GeForce RTX 4090 Laptop GPU") is None
    assert of_kind("abacus") is None


@pytest.mark.parametrize(
    ("kind", "name", "gigabytes"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100", 80),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb", 40),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb", 40),
        ("NVIDIA A100 80GB PCIe", "a100-pcie", 80),
        ("NVIDIA H100 PCIe", "h100-pcie", 80),
        ("NVIDIA H100 NVL", "h100-nvl", 94),
        ("NVIDIA H200 NVL", "h200-nvl", 141),
        ("NVIDIA H200", "h200", 141),
        ("Tesla V100-SXM2-16GB", "v100-16gb", 16),
    ],
)
def test_chips_of_one_name_are_told_apart_by_board_and_memory(kind, name, gigabytes):
    assert (of_kind(kind).name, of_kind(kind).memory) == (name, gigabytes * 1e9)


def test_a_part_of_a_chip_is_not_taken_for_the_whole():
    assert of_kind("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None


@pytest.mark.parametrize("name", ["t4", "v100"])
def test_chips_without_units_for_bfloat16_gain_nothing_by_it(name):
    assert find_device(name).bfloat16 == find_device(name).float32


def test_an_unknown_device_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean h100"):
        find_device("h10")


@pytest.mark.parametrize("name", ["RTX 4090", "rtx4090", "4090", "NVIDIA GeForce RTX 4090"])
def test_a_device_is_found_however_it_is_spelt(name):
    assert find_device(name) is find_device("rtx-4090")


@pytest.mark.parametrize("name", ["a40", "A10G", "l40s", "b200", "B200", "rtx-3090", "a6000"])
def test_devices_of_laboratories_are_in_the_table(name):
    assert find_device(name).memory >= 24e9


def test_names_are_told_apart_without_their_maker_s():
    names = [devices._plain(device.name) for device in DEVICES]
    assert len(set(names)) == len(names)


def test_a_cpu_has_no_peak_and_so_no_utilisation():
    assert devices.peak_flops() is None
