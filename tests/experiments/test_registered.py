"""Every registered experiment, as it is registered; a new one is tested by being there."""

import json

import jax
import jax.numpy as jnp
import pytest

from diffusion_ode import configuration
from experiments import registry
from experiments.conversion import from_document, to_document
from launch.building import build
from launch.describing import description
from launch.overrides import field_paths, override

ENTRIES = registry.entries()
every_experiment = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)

# Names that scripts rely on, wherever else they are used.
RELIED_ON = (
    *("train.num_steps", "train.batch_size", "train.log_every", "train.checkpoint_every"),
    *("train.accumulation", "train.seed", "train.objective", "train.optimizer"),
    *("evaluate.num_images", "evaluate.num_importance", "sample.num_images", "after_training"),
    *("mesh.data", "mesh.fsdp", "model.path", "model.network.features", "data.source"),
)


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
    config = registry.configuration_of(entry)
    said = description(entry, config)
    assert entry.hypothesis.split()[0] in said
    assert "parameters: " in said


@every_experiment
def test_config_is_saved_as_json_and_reloads_equal(entry):
    config = registry.configuration_of(entry)
    document = json.loads(json.dumps(to_document(config)))
    assert from_document(document) == config
    assert configuration.build(document) == build(config)


@every_experiment
def test_train_step_keeps_the_shapes_of_its_state(entry):
    from diffusion_ode.training.state import initial_state
    from diffusion_ode.training.step import make_train_step

    config = registry.configuration_of(entry)
    # All blocks are alike: two of them are traced in a tenth of the time of thirty-two.
    fewer = f"model.network.blocks={min(config.model.network.blocks, 2)}"
    experiment = build(override(config, [fewer]))
    model, train = experiment.model, experiment.train
    state = jax.eval_shape(
        lambda key: initial_state(model, train.objective, train.optimizer, key), jax.random.key(0)
    )
    batch = {
        "image": jax.ShapeDtypeStruct((train.batch_size, *model.pixels.shape), jnp.uint8),
        "flag": jax.ShapeDtypeStruct((train.batch_size,), jnp.float32),
    }
    step = make_train_step(
        model,
        train.objective,
        train.optimizer,
        train.average,
        num_steps=train.num_steps,
        accumulation=train.accumulation,
    )
    after, metrics = jax.eval_shape(step, state, batch)
    assert after == state
    assert metrics["bpd"].shape == ()


@every_experiment
def test_child_differs_from_its_parent(entry):
    if entry.parent is not None:
        parent = registry.configuration_of(registry.find(entry.parent))
        assert to_document(parent) != to_document(registry.configuration_of(entry))
