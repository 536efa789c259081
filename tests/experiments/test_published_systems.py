"""The published systems: their networks, their figures and their settings, as in the papers."""

import pytest

from diffusion_ode.diffusion.model import parameter_count
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe
from diffusion_ode.training.warm_start import WarmStart
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import field_paths

# Other tests register experiments of their own.
ENTRIES = [e for e in registry.entries() if e.function.__module__.startswith("experiments.")]
# Of the U-Net, which all of them have; scripts rely on them.
RELIED_ON = ("features", "blocks", "attention", "dropout", "precision", "remat", "loop")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_names_of_the_u_net_that_scripts_rely_on_hold_still(entry):
    config = registry.configuration_of(entry)
    if config.model.network.__fn_or_cls__ is UNet:
        assert {f"model.network.{name}" for name in RELIED_ON} <= set(field_paths(config))


@pytest.mark.parametrize("name", ["cifar10_vp", "cifar10_aug_vp"])
def test_published_networks_have_the_number_of_parameters_that_their_sizes_make(name):
    model = build(registry.configuration_of(registry.find(name)).model)
    network = model.network
    c, blocks = network.features, network.blocks
    norm = 2

    def block(width):
        convolutions = 9 * width * c + 9 * c * c + 2 * c
        shortcut = (width + 1) * c if width != c else 0
        return norm * width + norm * c + convolutions + 4 * c * c + shortcut

    attention = norm * c + 4 * (c + 1) * c
    condition = (c + 2) * 4 * c + (4 * c + 1) * 4 * c  # the flag and the bias beside C inputs
    ends = (9 * 15 + 1) * c + norm * c + (9 * c + 1) * 3
    body = blocks * block(c) + 2 * block(c) + attention + (blocks + 1) * block(2 * c)
    everywhere = (2 * blocks + 1) * attention if network.attention else 0
    assert parameter_count(model) == condition + ends + body + everywhere


PUBLISHED = {
    "cifar10_vp_finetune": 2.56,
    "cifar10_aug_vp": 2.42,
    "imagenet32_old_vp_finetune": 3.69,
    "imagenet32_new_vp_finetune": 3.43,
    "cifar10_vdm": 2.65,
    "cifar10_aug_vdm": 2.49,
    "imagenet32_old_vdm": 3.72,
    "imagenet64_vdm": 3.40,
    "cifar10_flow_matching": 2.99,
    "imagenet32_new_flow_matching": 3.53,
    "imagenet64_flow_matching": 3.31,
}


def test_published_figures_stand_beside_the_experiments_that_they_belong_to():
    assert {e.name: e.published for e in ENTRIES if e.published is not None} == PUBLISHED


@pytest.mark.parametrize(
    ("name", "features", "attention", "dropout", "batch_size", "num_steps", "num_importance"),
    [
        ("cifar10_vp", 128, False, 0.1, 128, 6_000_000, 1),
        ("cifar10_aug_vp", 256, True, 0.05, 1024, 10_000_000, 20),
        ("imagenet32_old_vp", 256, False, 0.1, 512, 2_000_000, 1),
        ("imagenet32_new_vp", 256, False, 0.1, 128, 2_000_000, 1),
    ],
)
def test_published_systems_have_their_published_values(
    name, features, attention, dropout, batch_size, num_steps, num_importance
):
    config = registry.configuration_of(registry.find(name))
    network, train = config.model.network, config.train
    assert (network.features, network.blocks, network.attention) == (features, 32, attention)
    assert network.dropout == dropout
    assert (train.batch_size, train.num_steps, train.accumulation) == (batch_size, num_steps, 1)
    assert (train.optimizer.b2, train.optimizer.weight_decay) == (0.99, 0.01)
    assert train.average.decay == 0.9999
    assert config.evaluate.num_importance == num_importance
    assert (config.model.schedule.gamma_0, config.model.schedule.gamma_1) == (-13.3, 5.0)


@pytest.mark.parametrize(
    ("name", "extra_steps", "batch_size", "accumulation"),
    [
        ("cifar10_vp_finetune", 200_000, 128, 1),
        ("cifar10_sp_finetune", 200_000, 128, 1),
        ("imagenet32_old_sp_finetune", 125_000, 512, 4),
        ("imagenet32_new_vp_finetune", 250_000, 128, 1),
    ],
)
def test_finetuning_goes_on_from_everything_that_its_parent_has(
    name, extra_steps, batch_size, accumulation
):
    entry = registry.find(name)
    train = build(registry.configuration_of(entry)).train
    assert (train.num_steps, train.batch_size) == (extra_steps, batch_size)
    assert train.accumulation == accumulation
    assert train.warm_start == WarmStart(source=f"runs/{entry.parent}")
    assert train.objective == SecondOrderFlowMatching(weight=0.1, residual=SingleProbe())
