"""Every registered experiment, as it is registered; a new one is tested by being there."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest

from diffusion_ode.configs import construction
from diffusion_ode.diffusion.model import parameter_count
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import SingleProbe
from diffusion_ode.solvers.divergence import draw_probes
from diffusion_ode.training.state import initial_state
from diffusion_ode.training.step import make_train_step
from diffusion_ode.training.warm_start import WarmStart
from experiments import registry
from experiments.config.building import build
from experiments.config.conversion import from_document, to_document
from experiments.config.overrides import field_paths, override
from launch.describing import description

# Other tests register experiments of their own.
ENTRIES = [e for e in registry.entries() if e.function.__module__.startswith("experiments.")]
every_experiment = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)

# Names that scripts rely on, wherever else they are used.
RELIED_ON = (
    *("train.num_steps", "train.batch_size", "train.log_every", "train.checkpoint_every"),
    *("train.accumulation", "train.seed", "train.objective", "train.optimizer"),
    *("evaluate.num_images", "evaluate.num_importance", "sample.num_images", "after_training"),
    *("mesh.data", "mesh.fsdp", "model.path", "model.network.features", "data.source"),
)


# All blocks are alike: one of them is traced in a thirtieth of the time of thirty-two.
ONE_BLOCK = "model.network.blocks=1"


@every_experiment
def test_facts_are_complete(entry):
    assert registry.data_of(entry) != "?"
    assert entry.hypothesis.endswith(".")
    assert registry.find(entry.name) is entry


@every_experiment
def test_names_that_scripts_rely_on_hold_still(entry):
    assert set(RELIED_ON) <= set(field_paths(registry.configuration_of(entry)))


@every_experiment
def test_it_builds_and_describes_without_its_data(entry):
    config = override(registry.configuration_of(entry), [ONE_BLOCK])
    lines = list(description(entry, config))
    assert max(map(len, lines)) <= 80
    said = "\n".join(lines)
    assert entry.hypothesis.split()[0] in said
    assert "parameters: " in said
    assert "memory each" in said


@every_experiment
def test_config_is_saved_as_json_and_reloads_equal(entry):
    config = registry.configuration_of(entry)
    document = json.loads(json.dumps(to_document(config)))
    assert from_document(document) == config
    assert construction.build(document) == build(config)


@every_experiment
def test_train_step_keeps_the_shapes_of_its_state(entry):
    config = registry.configuration_of(entry)
    parts = f"train.accumulation={min(config.train.accumulation, 2)}"
    experiment = build(override(config, [ONE_BLOCK, parts]))
    check_train_step(
        experiment.model,
        experiment.train.objective,
        experiment.train.optimizer,
        experiment.train.average,
        experiment.train.batch_size,
        experiment.train.accumulation,
    )


@functools.cache  # several experiments differ in their data only
def check_train_step(model, objective, optimizer, average, batch_size, accumulation):
    state = jax.eval_shape(
        lambda key: initial_state(model, objective, optimizer, key), jax.random.key(0)
    )
    batch = {
        "image": jax.ShapeDtypeStruct((batch_size, *model.pixels.shape), jnp.uint8),
        "flag": jax.ShapeDtypeStruct((batch_size,), jnp.float32),
    }
    step = make_train_step(
        model, objective, optimizer, average, num_steps=10, accumulation=accumulation
    )
    after, metrics = jax.eval_shape(step, state, batch)
    assert after == state
    assert metrics["bpd"].shape == ()


@every_experiment
def test_bound_and_flow_have_the_shapes_of_the_images(entry):
    config = registry.configuration_of(entry)
    experiment = build(override(config, [ONE_BLOCK, "evaluate.bound.draws=1"]))
    check_evaluation(experiment.model, experiment.evaluate.ode, experiment.evaluate.bound)


@functools.cache
def check_evaluation(model, ode, bound):
    shape = (2, *model.pixels.shape)
    flow = ProbabilityFlow(model, ode.variable, ode.divergence)
    last = flow.span[1]

    def evaluate(parameters, z, levels, keys):
        probes = draw_probes(ode.divergence, keys, model.pixels.shape)
        drift, divergence = flow(parameters, jnp.full(2, last), z, probes)
        return bound.terms(model, parameters, levels, keys).total, drift, divergence

    total, drift, divergence = jax.eval_shape(
        evaluate,
        jax.eval_shape(model.init, jax.random.key(0)),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(shape, jnp.int32),
        jax.random.split(jax.random.key(0), 2),
    )
    assert (total.shape, drift.shape, divergence.shape) == ((2,), shape, (2,))


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
}


def test_published_figures_stand_beside_the_experiments_that_they_belong_to():
    assert {e.name: e.published for e in ENTRIES if e.published is not None} == PUBLISHED


@pytest.mark.parametrize(
    ("name", "features", "attention", "dropout", "batch_size", "num_steps", "num_importance"),
    [
        ("cifar10_vp", 128, False, 0.1, 128, 6_000_000, 1),
        ("cifar10_aug_vp", 256, True, 0.05, 1024, 10_000_000, 20),
        ("imagenet32_old_vp", 256, False, 0.1, 512, 2_000_000, 1),
        ("imagenet32_new_vp", 128, False, 0.1, 128, 2_000_000, 1),
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
        ("imagenet32_old_sp_finetune", 500_000, 512, 4),
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


@every_experiment
def test_child_differs_from_its_parent(entry):
    if entry.parent is not None:
        parent = registry.configuration_of(registry.find(entry.parent))
        assert to_document(parent) != to_document(registry.configuration_of(entry))
