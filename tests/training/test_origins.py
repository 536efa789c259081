"""Published checkpoints fill a training state, exactly or not at all."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import serialization

from diffusion_ode.diffusion.learned_schedule import SCHEDULE, LearnedScalarSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.networks.unet_sizes import unet_sizes
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.training.optimizer import AdamW
from diffusion_ode.training.origins import PublishedFile, Workdir, parse_origin
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh
from diffusion_ode.training.step import ExponentialAverage
from diffusion_ode.training.warm_start import WarmStart
from tests.published_checkpoint import (
    published_tree,
    random_trees,
    small_model,
    write_published,
)


def program_of(model) -> TrainProgram:
    return TrainProgram(
        model=model,
        objective=FlowMatching(),
        optimizer=AdamW(),
        average=ExponentialAverage(),
        placement=Mesh(data=1).build(),
        num_steps=1,
        batch_size=2,
        accumulation=1,
        seed=0,
    )


@pytest.fixture(scope="module")
def program():
    return program_of(small_model())


@pytest.fixture(scope="module")
def trees():
    return random_trees(small_model())


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)


@pytest.mark.parametrize("accumulated", [False, True])
def test_published_checkpoint_fills_parameters_average_moments_and_step(
    program, trees, tmp_path, accumulated
):
    path = write_published(tmp_path, trees, step=600, accumulated=accumulated)
    state = WarmStart().begin(program, f"reference:{path}")
    assert (int(state.step), int(state.first_step)) == (600, 600)
    assert_same(state.parameters, trees.parameters)
    assert_same(state.ema, trees.ema)
    adam = state.optimizer[0]
    assert int(adam.count) == 600
    assert_same(adam.mu, trees.mu)
    assert_same(adam.nu, trees.nu)
    assert jax.tree.structure(state) == jax.tree.structure(program.abstract_state)
    jax.tree.map(lambda leaf, wanted: assert_kind(leaf, wanted), state, program.abstract_state)


def assert_kind(leaf, wanted):
    assert (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype)
    assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


def test_published_schedule_goes_on_with_new_moments(trees, tmp_path):
    tree = published_tree(trees)
    adam = tree["opt_state"]["0"]
    for place, scale in ((tree["params"], 1), (tree["ema_params"], 2), (adam["mu"], 1)):
        place["gamma"] = {"b": np.float32([-6 * scale]), "w": np.float32([-4 * scale])}
    adam["nu"]["gamma"] = adam["mu"]["gamma"]
    (tmp_path / "ckpt-600.flax").write_bytes(serialization.msgpack_serialize(tree))
    model = dataclasses.replace(small_model(), schedule=LearnedScalarSchedule())
    state = WarmStart().begin(program_of(model), f"reference:{tmp_path}")
    assert_same(state.parameters, {**trees.parameters, SCHEDULE: {"ends": {"b": -6, "w": 4}}})
    assert_same(state.ema, {**trees.ema, SCHEDULE: {"ends": {"b": -12, "w": 8}}})
    anew = {SCHEDULE: {"ends": {"b": 0, "w": 0}}}
    assert_same(state.optimizer[0].mu, {**trees.mu, **anew})
    assert_same(state.optimizer[0].nu, {**trees.nu, **anew})


def test_published_moments_fill_any_adam_and_nothing_else(trees, tmp_path):
    path = write_published(tmp_path, trees, step=600)
    optimizer = optax.adamw(optax.linear_schedule(1e-3, 0.0, 10))
    program = dataclasses.replace(program_of(small_model()), optimizer=optimizer)
    adam, _, schedule = WarmStart().begin(program, f"reference:{path}").optimizer
    assert (int(adam.count), int(schedule.count)) == (600, 0)
    assert_same(adam.mu, trees.mu)

    program = dataclasses.replace(program, optimizer=optax.sgd(1e-3))
    with pytest.raises(UserError, match=r"train.optimizer is another: set .*optimizer=False"):
        WarmStart().begin(program, f"reference:{path}")
    state = WarmStart(optimizer=False).begin(program, f"reference:{path}")
    assert int(state.step) == 600


def test_no_two_arrays_of_the_state_share_a_buffer(program, trees, tmp_path):
    path = write_published(tmp_path, trees)
    state = WarmStart(ema=False).begin(program, f"reference:{path}")
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)


def test_only_what_is_asked_for_is_taken_over(program, trees, tmp_path):
    path = write_published(tmp_path, trees)
    some = WarmStart(optimizer=False, step=False)
    state = some.begin(program, f"reference:{path}")
    assert_same(state.ema, trees.ema)
    assert int(state.step) == int(state.optimizer[0].count) == 0


def test_folder_means_its_newest_checkpoint(program, trees, tmp_path):
    for step in (5, 40, 30):
        write_published(tmp_path, trees, step=step)
    restored = PublishedFile(tmp_path).restore(program.model, {})
    assert restored.step == 40
    assert restored.facts["file"].endswith("ckpt-40.flax")


def test_two_published_files_of_one_step_have_different_digests(program, trees, tmp_path):
    digests = set()
    for name, ema in (("one", trees.ema), ("other", trees.parameters)):
        (tmp_path / name).mkdir()
        path = write_published(tmp_path / name, dataclasses.replace(trees, ema=ema))
        digests.add(PublishedFile(path).restore(program.model, {}).facts["digest"])
    assert len(digests) == 2
    assert all(digest.startswith("sha256:") for digest in digests)


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ({"features": 64}, ["features=64"]),
        ({"blocks": 3}, ["blocks=3"]),
        ({"attention": True}, ["attention=True"]),
        ({"fourier_exponents": ()}, ["fourier_exponents=()"]),
        ({"features": 64, "blocks": 2, "attention": True}, ["features=64", "blocks=2"]),
    ],
)
def test_other_sizes_are_refused_with_those_that_would_fit(program, tmp_path, network, settings):
    path = write_published(tmp_path, random_trees(small_model(**network)))
    with pytest.raises(UserError) as refusal:
        WarmStart().begin(program, f"reference:{path}")
    sentence = str(refusal.value)
    assert "does not fit this model" in sentence
    for setting in settings:
        assert f"--set model.network.{setting}" in sentence


def test_what_is_missing_and_left_over_is_named(program, trees, tmp_path):
    ema = dict(trees.ema)
    ema["conv_inn"] = ema.pop("conv_in")
    path = write_published(tmp_path, dataclasses.replace(trees, ema=ema))
    with pytest.raises(UserError) as refusal:
        WarmStart().begin(program, f"reference:{path}")
    sentence = str(refusal.value)
    assert "in ema_params 2 missing (conv_in/bias, conv_in/kernel)" in sentence.replace(
        "conv_in/kernel, conv_in/bias", "conv_in/bias, conv_in/kernel"
    )
    assert "2 left over (conv_inn/" in sentence


def test_other_channels_are_named(trees, tmp_path):
    path = write_published(tmp_path, trees)
    grey = small_model()
    grey = dataclasses.replace(grey, pixels=dataclasses.replace(grey.pixels, shape=(8, 8, 1)))
    with pytest.raises(UserError, match="images of 3 channels, these have 1"):
        PublishedFile(path).restore(grey, {})


def test_values_that_are_not_finite_are_refused(program, trees, tmp_path):
    parameters = jax.tree.map(np.copy, trees.parameters)
    parameters["conv_in"]["bias"][3] = np.nan
    path = write_published(tmp_path, dataclasses.replace(trees, parameters=parameters))
    with pytest.raises(UserError, match="conv_in/bias that are not finite"):
        WarmStart().begin(program, f"reference:{path}")


def test_sizes_are_read_off_the_parameters():
    model = small_model(features=64, blocks=3, attention=True, fourier_exponents=())
    sizes = unet_sizes(jax.eval_shape(model.init, jax.random.key(0)))
    assert sizes is not None
    assert (sizes.features, sizes.blocks, sizes.attention) == (64, 3, True)
    assert (sizes.fourier_exponents, sizes.channels) == ((), 3)
    assert unet_sizes({"dense": {"kernel": np.zeros((2, 2))}}) is None


def test_origins_are_parsed():
    assert isinstance(parse_origin("reference:a@b/ckpt-1.flax"), PublishedFile)
    assert parse_origin("runs/a@20") == Workdir(parse_origin("runs/a").workdir, 20)
    with pytest.raises(UserError, match="does not end in a step"):
        parse_origin("runs/a@newest")


@pytest.mark.parametrize(
    ("name", "says"), [("nothing", "There is no"), ("", "holds no ckpt-N.flax")]
)
def test_missing_published_file_is_explained(program, tmp_path, name, says):
    with pytest.raises(UserError, match=says):
        PublishedFile(tmp_path / name).restore(program.model, {})


def test_a_folder_whose_name_has_an_at_is_found(tmp_path):
    (tmp_path / "a@b").mkdir()
    assert parse_origin(f"{tmp_path}/a@b") == Workdir(tmp_path / "a@b")
    assert parse_origin(f"{tmp_path}/a@b@30") == Workdir(tmp_path / "a@b", 30)
    assert parse_origin(f"{tmp_path}/a@40") == Workdir(tmp_path / "a", 40)
    with pytest.raises(UserError, match="does not end in a step"):
        parse_origin(f"{tmp_path}/a@c")
