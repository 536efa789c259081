"""Every registered experiment, as it is registered; a new one is tested by being there."""

import functools
import json

import fiddle as fdl
import jax
import jax.numpy as jnp
import pytest

from diffusion_ode.configs import construction
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.solvers.divergence import draw_probes
from diffusion_ode.training.state import initial_state
from diffusion_ode.training.step import make_train_step
from experiments import registry
from experiments.config.building import build
from experiments.config.conversion import explicit, to_document
from experiments.config.overrides import field_paths, override
from launch.describing import description

# Other tests register experiments of their own.
ENTRIES = [e for e in registry.entries() if e.function.__module__.startswith("experiments.")]
STRANGER = registry.find("tests.strangers.network:digits_dit")  # nothing knows its network
every_experiment = pytest.mark.parametrize(
    "entry", [*ENTRIES, STRANGER], ids=lambda entry: entry.name
)


def kind_of(entry):
    """The pieces that most of an experiment's trace is made by, whatever their sizes."""
    config = registry.configuration_of(entry)
    model, train = config.model, config.train
    pieces = (
        *(model.path, model.parameterization, model.network, model.schedule, model.base),
        *(train.objective, train.optimizer),
    )
    return tuple(
        fdl.get_callable(piece).__name__ if isinstance(piece, fdl.Buildable) else str(piece)
        for piece in pieces
    )


def one_of_each_kind():
    """Quick is the first experiment of each kind; the others take minutes."""
    kinds = {}
    for entry in [*ENTRIES, STRANGER]:
        kinds.setdefault(kind_of(entry), []).append(entry)
    return [
        pytest.param(entry, marks=[pytest.mark.long] if place else [], id=entry.name)
        for alike in kinds.values()
        for place, entry in enumerate(alike)
    ]


each_kind = pytest.mark.parametrize("entry", one_of_each_kind())
# Whose classes a document may name here.
TRUSTED = ("tests",)

# Names that scripts rely on, wherever else they are used.
RELIED_ON = (
    *("train.num_steps", "train.batch_size", "train.log_every", "train.checkpoint_every"),
    *("train.accumulation", "train.seed", "train.objective", "train.optimizer"),
    *("evaluate.num_images", "evaluate.num_importance", "sample.num_images", "after_training"),
    *("mesh.data", "mesh.fsdp", "model.path", "model.network", "data.source"),
)


def one_block(entry, *settings):
    """The experiment's config, traced sooner: of equal blocks one, of several scales two."""
    config = registry.configuration_of(entry)
    paths, fewer = field_paths(config), []
    if "model.network.blocks" in paths:
        fewer.append("model.network.blocks=1")
    if "model.network.multipliers" in paths:
        at = max(1, config.model.pixels.shape[0] // 2)
        fewer += ["model.network.multipliers=(1, 2)", f"model.network.attention_at=({at},)"]
    return override(config, [*fewer, *settings])


@every_experiment
def test_facts_are_complete(entry):
    assert registry.data_of(entry) != "?"
    assert entry.hypothesis.endswith(".")
    assert registry.find(entry.name) is entry


@every_experiment
def test_names_that_scripts_rely_on_hold_still(entry):
    assert set(RELIED_ON) <= set(field_paths(registry.configuration_of(entry)))


@each_kind
def test_it_builds_and_describes_without_its_data(entry):
    lines = list(description(entry, one_block(entry), full=True))
    assert max(map(len, lines)) <= 80
    said = "\n".join(lines)
    assert entry.hypothesis.split()[0] in said
    assert "parameters: " in said


@every_experiment
def test_config_is_saved_as_json_and_reloads_equal(entry):
    config = registry.configuration_of(entry)
    document = json.loads(json.dumps(to_document(config)))
    assert explicit(construction.build(document, trusted=TRUSTED)) == config
    assert construction.build(document, trusted=TRUSTED) == build(config)


@each_kind
def test_train_step_keeps_the_shapes_of_its_state(entry):
    config = registry.configuration_of(entry)
    parts = f"train.accumulation={min(config.train.accumulation, 2)}"
    experiment = build(one_block(entry, parts))
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


@each_kind
def test_bound_and_flow_have_the_shapes_of_the_images(entry):
    experiment = build(one_block(entry, "evaluate.bound.draws=1"))
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


@every_experiment
def test_child_differs_from_its_parent(entry):
    if entry.parent is not None:
        parent = registry.configuration_of(registry.find(entry.parent))
        assert to_document(parent) != to_document(registry.configuration_of(entry))
