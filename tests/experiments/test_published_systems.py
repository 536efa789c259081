"""The published systems: their networks, their figures and their settings, as in the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.augmentation import Flip
from diffusion_ode.diffusion.learned_schedule import LearnedMonotoneSchedule, LearnedScalarSchedule
from diffusion_ode.diffusion.model import parameter_count
from diffusion_ode.diffusion.parameterization import NoisePrediction, VelocityPrediction
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.time_sampling import UniformTimes
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.diffusion.weighting import UnweightedError
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.high_order import HighOrderDirectional
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe
from diffusion_ode.training.optimizer import Moment
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
    ("name", "features", "blocks", "attention", "batch_size"),
    [
        ("cifar10_vdm", 128, 32, False, 128),
        ("cifar10_aug_vdm", 256, 32, True, 1024),
        ("imagenet32_old_vdm", 256, 32, False, 512),
        ("imagenet64_vdm", 256, 64, False, 512),
    ],
)
def test_vdm_predicts_the_noise_on_a_schedule_that_begins_at_its_ends(
    name, features, blocks, attention, batch_size
):
    experiment = build(registry.configuration_of(registry.find(name)))
    model, train, network = experiment.model, experiment.train, experiment.model.network
    assert (network.features, network.blocks, network.attention) == (features, blocks, attention)
    assert network.dropout == (0.05 if name == "cifar10_aug_vdm" else 0.1)
    assert (train.batch_size, train.num_steps) == (batch_size, 10_000_000)
    optimizer = train.optimizer
    assert (optimizer.b1, optimizer.b2, optimizer.weight_decay) == (0.9, 0.99, 0.01)
    assert train.objective == FlowMatching(UniformTimes())
    assert (model.path, model.parameterization) == (VariancePreserving(), NoisePrediction())
    schedule = model.schedule
    kind = LearnedMonotoneSchedule if name == "cifar10_aug_vdm" else LearnedScalarSchedule
    assert type(schedule) is kind and schedule.learn_ends
    trained = schedule.of(schedule.init(jax.random.key(0)))
    assert (trained.gamma_0, trained.gamma_1) == pytest.approx((-13.3, 5.0))
    assert float(trained.network_time(jnp.float32(-13.3 + 18.3 / 4))) == pytest.approx(0.25)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    ("stem", "dropout"), [("cifar10_score_ode", 0.1), ("imagenet32_old_score_ode", 0.0)]
)
def test_score_ode_adds_order_upon_order_on_its_exploding_path(stem, dropout, order):
    experiment = build(registry.configuration_of(registry.find(f"{stem}_{order}")))
    model, train, network = experiment.model, experiment.train, experiment.model.network
    time = jnp.linspace(0.0, 1.0, 5)
    sigma = model.path.sigma(model.schedule.gamma(time))
    np.testing.assert_allclose(sigma, 2.0 * 0.01 * 5000.0**time, rtol=1e-3)
    assert (network.features, network.multipliers, network.blocks) == (128, (1, 2, 2, 2), 4)
    assert (network.attention_at, network.dropout, network.input_pyramid) == ((16,), dropout, True)
    assert train.batch_size == (48 if order == 3 else 128)
    optimizer = train.optimizer
    assert (optimizer.b2, optimizer.weight_decay, optimizer.clip_norm) == (0.999, 0.0, 1.0)
    rates = [float(optimizer.learning_rate(step)) for step in (0, 2500, 5000, 10**6)]
    assert rates == pytest.approx([0.0, 1e-4, 2e-4, 2e-4])
    assert train.average.decay == 0.999
    objective = train.objective
    assert objective.weighting == UnweightedError(NoisePrediction())
    if order > 1:
        assert objective.weight == 1.0
        assert objective.residual == HighOrderDirectional(1.0, 1.0, float(order == 3))
        assert train.warm_start == WarmStart(source=f"runs/{stem}_1")
    flips = stem == "cifar10_score_ode"
    assert (experiment.data.augmentation == Flip()) == flips


@pytest.mark.parametrize(
    ("name", "sizes", "attention_at", "batch_size", "num_steps", "rates"),
    [
        ("cifar10", (256, (1, 2, 2, 2), 2), (16,), 256, 391_000, {0: 0.0, 45_000: 5e-4}),
        ("imagenet32_new", (256, (1, 2, 2, 2), 3), (16, 8), 1024, 250_000, {0: 0.0, 20_000: 1e-4}),
        ("imagenet64", (192, (1, 2, 3, 4), 3), (32, 16, 8), 2048, 157_000, {0: 1e-4, 80_000: 1e-4}),
    ],
)
def test_flow_matching_regresses_on_straight_lines_without_a_weight(
    name, sizes, attention_at, batch_size, num_steps, rates
):
    experiment = build(registry.configuration_of(registry.find(f"{name}_flow_matching")))
    model, train, network = experiment.model, experiment.train, experiment.model.network
    assert (network.features, network.multipliers, network.blocks) == sizes
    assert (network.attention_at, network.head_width, network.dropout) == (attention_at, 64, 0.0)
    assert (train.batch_size, train.num_steps) == (batch_size, num_steps)
    optimizer = train.optimizer
    assert (optimizer.b1, optimizer.b2, optimizer.weight_decay) == (0.9, 0.999, 0.0)
    zero = jnp.zeros((), jnp.int32)
    constant = name == "imagenet64"
    for step, rate in (rates | {num_steps: 1e-4 if constant else 0.0}).items():
        rate_of = optimizer.learning_rate
        found = rate_of if constant else rate_of.at(Moment(zero + step, zero, num_steps))
        assert float(found) == pytest.approx(rate, abs=1e-9)
    assert (model.path, model.parameterization) == (StraightPath(), VelocityPrediction())
    # Uniform in σ between σ_min and 1 − σ_min.
    sigma = model.path.sigma(model.schedule.gamma(jnp.linspace(0.0, 1.0, 5)))
    np.testing.assert_allclose(sigma, 0.0013 + 0.9974 * np.linspace(0.0, 1.0, 5), atol=1e-4)
    assert train.objective.weighting == UnweightedError(VelocityPrediction())


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
