"""Checkpoints of VDM, whose schedule was learned, become workdirs of ours."""

import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from data.conversion import Conversion, convert
from diffusion_ode.configs import construction, documents
from diffusion_ode.diffusion.time_sampling import UniformTimes
from diffusion_ode.errors import UserError
from diffusion_ode.inference.diffusion_model import DiffusionModel
from diffusion_ode.tools.import_reference import main
from diffusion_ode.training.origins import parse_origin
from experiments import registry
from experiments.config.conversion import to_document
from experiments.config.overrides import override
from launch.run import main as launch
from tests.published_checkpoint import published_tree, random_trees, small_model

SCALAR = {"b": np.float32([-12.5]), "w": np.float32([-17.0])}


def network():
    rng = np.random.default_rng(1)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "l1": {"kernel": np.float32([[-18.0]]), "bias": np.float32([-13.0])},
        "l2": {"kernel": draw(1, 1024), "bias": draw(1024)},
        "l3": {"kernel": draw(1024, 1)},
    }


def formula(gamma, t):
    """VDM's γ(t), in float64."""
    if "b" in gamma:
        return gamma["b"] + np.abs(gamma["w"]).astype(float) * t
    l1, l2, l3 = (gamma[name] for name in ("l1", "l2", "l3"))
    inner = np.abs(l2["kernel"][0]).astype(float) * 2 * (t[:, None] - 0.5) + l2["bias"]
    hidden = 2 / (1 + np.exp(-inner)) - 1
    line = np.abs(l1["kernel"][0, 0]) * t + l1["bias"][0]
    return line + hidden @ np.abs(l3["kernel"][:, 0]).astype(float) / 1024


def write(folder, gamma, scale=1.0):
    tree = published_tree(random_trees(small_model()))
    tree["ema_params"] = jax.tree.map(lambda a: np.float32(scale) * a, tree["ema_params"])
    adam = tree["opt_state"]["0"]
    for place in (tree["params"], tree["ema_params"], adam["mu"], adam["nu"]):
        place["gamma"] = gamma
    (folder / "ckpt-600.flax").write_bytes(serialization.msgpack_serialize(tree))
    return folder


@pytest.fixture(scope="module", params=["scalar", "network"])
def imported(request, tmp_path_factory):
    gamma = SCALAR if request.param == "scalar" else network()
    folder = tmp_path_factory.mktemp("vdm")
    assert main([str(write(folder, gamma)), str(folder / "run")]) == 0
    experiment = construction.build(documents.read(folder / "run/config.json"))
    return gamma, experiment, DiffusionModel.load(folder / "run")


def test_schedule_is_the_formula(imported):
    gamma, _, loaded = imported
    schedule = loaded.model.schedule
    t = np.linspace(0, 1, 101)
    expected = formula(gamma, t)
    np.testing.assert_allclose(schedule.gamma(jnp.float32(t)), expected, rtol=2e-6, atol=1e-5)
    ends = [schedule.gamma_0, schedule.gamma_1]
    np.testing.assert_allclose(ends, expected[[0, -1]], rtol=1e-6)
    told = schedule.network_time(jnp.float32([-13.3, 5.0]))
    np.testing.assert_allclose(told, [0, 1], atol=1e-6)


def test_a_training_goes_on_by_the_plain_gradient_at_times_of_the_schedule(imported):
    gamma, experiment, _ = imported
    learned, objective = experiment.model.schedule, experiment.train.objective
    learned.check(objective)
    assert objective.times == UniformTimes()
    assert "b" in gamma or not learned.by_variance


def test_ends_of_the_bound_are_vdms(imported):
    gamma, experiment, loaded = imported
    model = loaded.model
    levels = jnp.asarray(np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3)), jnp.uint8)
    g1 = formula(gamma, np.array([1.0]))[0]
    alpha2, sigma2 = 1 / (1 + np.exp(g1)), 1 / (1 + np.exp(-g1))
    x = (2 * np.asarray(levels, float) + 1) / 256 - 1
    kl = 0.5 * np.sum(alpha2 * x**2 + sigma2 - np.log(sigma2) - 1, axis=(1, 2, 3))
    ends = experiment.evaluate.quirks.bound(experiment.evaluate.bound).ends
    np.testing.assert_allclose(ends.prior(model, levels), kl, rtol=1e-4)


def test_printed_command_has_the_imported_model(tmp_path, capsys):
    for name, gamma in (("scalar", SCALAR), ("network", network())):
        (tmp_path / name).mkdir()
        workdir = tmp_path / name / "run"
        assert main([str(write(tmp_path / name, gamma)), str(workdir)]) == 0
        said = capsys.readouterr().out
        assert "path vp, noise prediction" in said
        words = shlex.split(said.splitlines()[-1])
        settings = [w.removeprefix("--set=") for w in words if w.startswith("--set=")]
        config = override(registry.configuration_of(registry.find("cifar10_vp")), settings)
        typed = to_document(config)["arguments"]
        ours = documents.read(workdir / "config.json")["arguments"]
        assert typed["model"] == ours["model"]
        assert typed["evaluate"]["arguments"]["quirks"] == ours["evaluate"]["arguments"]["quirks"]


def test_start_with_another_schedule_is_refused_with_the_import_that_fits(tmp_path):
    origin = parse_origin(f"reference:{write(tmp_path, SCALAR)}")
    with pytest.raises(UserError, match=r"learned a schedule.*import_reference"):
        origin.restore(small_model(), {})


def direct_bound(gamma, network, ema, levels):
    """VDM's bound in bits per dimension, from its formulas, by quadrature over t."""
    rng, dimensions = np.random.default_rng(4), levels[0].size
    x = (2.0 * levels + 1.0) / 256 - 1.0
    apply = jax.jit(lambda z, t: network.apply({"params": ema}, z, t, jnp.zeros(len(z)), t))

    def variances(g):
        return 1 / (1 + np.exp(g)), 1 / (1 + np.exp(-g))

    g0, g1 = formula(gamma, np.array([0.0, 1.0]))
    alpha2, sigma2 = variances(g0)
    noise = rng.normal(size=x.shape)
    away = x + np.sqrt(sigma2 / alpha2) * noise
    centres = (2.0 * np.arange(256) + 1.0) / 256 - 1.0
    logits = -0.5 * (away[..., None] - centres) ** 2 * alpha2 / sigma2
    likely = np.take_along_axis(logits, levels[..., None].astype(int), -1)[..., 0]
    reconstruction = np.sum(np.log(np.exp(logits - likely[..., None]).sum(-1))) / len(x)
    alpha2, sigma2 = variances(g1)
    prior = 0.5 * np.sum(alpha2 * x**2 + sigma2 - np.log(sigma2) - 1) / len(x)

    number = 128
    diffusion = 0.0
    for t in (np.arange(number) + 0.5) / number:
        before, at, after = formula(gamma, np.array([t - 0.5 / number, t, t + 0.5 / number]))
        alpha2, sigma2 = variances(at)
        noise = rng.normal(size=x.shape)
        z = np.sqrt(alpha2) * x + np.sqrt(sigma2) * noise
        told = np.full(len(x), (at + 13.3) / 18.3, np.float32)
        error = noise - np.asarray(apply(np.float32(z), told))
        diffusion += 0.5 * (after - before) * np.sum(error**2) / len(x)
    return (reconstruction + prior + diffusion) / (dimensions * np.log(2.0))


@pytest.mark.long
@pytest.mark.parametrize("gamma", [SCALAR, network()], ids=["scalar", "network"])
def test_the_command_that_the_import_prints_gives_vdms_own_bound(gamma, tmp_path, capsys):
    levels = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    blocks = {"train": [lambda: levels[:2]], "test": [lambda: levels[2:]]}
    counts = {"train": None, "test": None}
    convert(
        Conversion("cifar10", (32, 32, 3), 256, counts, blocks, (), "a test"), tmp_path / "data"
    )
    assert main([str(write(tmp_path, gamma, scale=0.05)), str(tmp_path / "run")]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    flags = [f"--data_dir={tmp_path / 'data'}", "--set=evaluate.ode=None"]
    assert launch([*words[2:], *flags, "--set=evaluate.bound.draws=4"]) == 0
    (result,) = (tmp_path / "run/evaluations").glob("*/result.json")
    found = json.loads(result.read_text())["bound"]["bpd"]
    ema = jax.tree.map(lambda a: 0.05 * a, random_trees(small_model()).ema)
    expected = direct_bound(gamma, small_model().network, ema, levels[2:])
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("gamma", "said"),
    [
        ({"b": np.float32([np.nan]), "w": np.float32([1])}, "not finite"),
        ({"b": np.float32([1]), "w": np.float32([0])}, "is not below"),
        ({"b": np.float32([1, 2]), "w": np.float32([1])}, "another form"),
        ({"l1": {"kernel": np.float32([[1]])}}, "another form"),
    ],
)
def test_bad_schedules_are_refused_in_one_sentence(gamma, said, tmp_path, capsys):
    assert main([str(write(tmp_path, gamma)), str(tmp_path / "run")]) == 2
    refusal = capsys.readouterr().err
    assert said in refusal and len(refusal.splitlines()) == 1
