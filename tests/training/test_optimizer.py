"""Optimisers: every piece that a config may name takes a real step; ours know their run."""

import inspect
import json

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion_ode.checkpoints.checkpoints import Checkpoints
from diffusion_ode.checkpoints.stored import StoredCheckpoints
from diffusion_ode.configs import allowed, construction
from diffusion_ode.configs.documents import render
from diffusion_ode.errors import UserError
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.muon import Muon, spread
from diffusion_ode.training.optimizer import (
    AdamW,
    Moment,
    NotBiases,
    ScaleByLearningRate,
    WarmedUp,
    WarmedUpThenCosine,
    WarmedUpThenPolynomial,
    known_rate,
    schedules_begun_anew,
    updated,
)
from experiments.config.conversion import to_document
from experiments.config.overrides import override

KERNEL, INPUTS = (
    jax.random.normal(jax.random.key(i), (n, m)) for i, n, m in ((0, 3, 4), (1, 8, 3))
)
PARAMETERS = {"dense": {"kernel": KERNEL, "bias": jnp.ones(4)}}
MOMENT = Moment(jnp.int32(1), jnp.int32(0), 10)

NEEDED = {
    "learning_rate": "0.01",
    "eta": "0.01",
    "gamma": "0.5",
    "key": "0",
    "clipping": "0.1",
    "max_delta": "0.1",
    "threshold": "0.1",
    "max_norm": "0.1",
    "decay": "0.9",
    "step_size": "-0.01",
    "step_size_fn": "optax.linear_schedule(1.0, 0.1, 5)",
    "inner": "optax.sgd(0.01)",
    "mask": "NotBiases()",
    "max_consecutive_errors": "5",
    "value": "0.01",
    "init_value": "0.02",
    "end_value": "0.001",
    "peak_value": "0.02",
    "transition_steps": "5",
    "warmup_steps": "3",
    "decay_steps": "9",
    "power": "2.0",
    "decay_rate": "0.5",
    "schedules": "[WarmedUp(0.01, 1), optax.constant_schedule(0.01)]",
    "boundaries": "[3]",
}
"""What constructors must be given, as it is typed."""


def typed(module, name):
    """A call of one of Optax's constructors, with what it needs alone."""
    parameters = inspect.signature(resolved(module, name)).parameters
    if name == "chain":
        return "chain(clip_by_global_norm(0.1), AdamW(0.01))"
    needed = [p.name for p in parameters.values() if p.default is p.empty]
    return f"{module}.{name}({', '.join(f'{one}={NEEDED[one]}' for one in needed)})"


def resolved(module, name):
    return allowed.locate_constructor(f"{module}:{name}")


def is_schedule(module, name):
    return "Transformation" not in str(inspect.signature(resolved(module, name)).return_annotation)


def loss(parameters):
    return jnp.mean((INPUTS @ parameters["dense"]["kernel"] + parameters["dense"]["bias"]) ** 2)


def step(optimizer, parameters, state, moment=MOMENT):
    value, gradients = jax.value_and_grad(loss)(parameters)
    updates, state = updated(optimizer, gradients, state, parameters, value=value, moment=moment)
    return optax.apply_updates(parameters, updates), state


@pytest.mark.parametrize(
    ("own", "rate"), [(0, 0.0), (2, 0.05), (4, 0.1), (7, 0.1 * 0.5**2), (10, 0.0), (12, 0.0)]
)
def test_polynomial_rate_rises_in_a_line_and_falls_by_its_power_within_this_run(own, rate):
    schedule = WarmedUpThenPolynomial(peak=0.1, warmup_steps=4, power=2.0)
    moment = Moment(jnp.int32(100 + own), jnp.int32(100), 10)
    assert float(schedule.at(moment)) == pytest.approx(rate, abs=1e-7)


def test_clipped_adam_takes_the_steps_of_a_chain_with_optax_s_clipping():
    # With b1 = 0 and a large eps the step is as long as the gradient.
    settings = {"b1": 0.0, "eps": 1e3, "weight_decay": 0.0}
    clipped = AdamW(1.0, clip_norm=1e-3, **settings)
    chained = optax.chain(optax.clip_by_global_norm(1e-3), AdamW(1.0, **settings))
    after, _ = step(clipped, PARAMETERS, clipped.init(PARAMETERS))
    expected, _ = step(chained, PARAMETERS, chained.init(PARAMETERS))
    np.testing.assert_array_equal(after["dense"]["kernel"], expected["dense"]["kernel"])
    free, _ = step(AdamW(1.0, **settings), PARAMETERS, AdamW().init(PARAMETERS))
    assert not np.allclose(free["dense"]["kernel"], expected["dense"]["kernel"], atol=1e-7)


OFFERED = [(m, n) for m, names in allowed.LIBRARY_CONSTRUCTORS.items() for n in sorted(names)]


def test_every_offered_piece_takes_a_real_step_and_its_config_is_written_and_read_back():
    optimizers = {}
    for module, name in OFFERED:
        text = typed(module, name)
        users = ("AdamW({})", "optax.sgd({})") if is_schedule(module, name) else ("{}",)
        for user in users:
            config = override(fdl.Config(Train), [f"optimizer={user.format(text)}"])
            document = to_document(config)
            construction.build(json.loads(json.dumps(document)))
            shown = render(document["arguments"]["optimizer"])
            assert to_document(override(fdl.Config(Train), [f"optimizer={shown}"])) == document
            optimizers[user.format(text)] = fdl.build(config).optimizer

    @jax.jit
    def stepped():
        taken = {}
        for name, optimizer in optimizers.items():
            state = optimizer.init(PARAMETERS)
            parameters, after = step(optimizer, PARAMETERS, state)
            taken[name] = parameters, state, after
        return taken

    for name, (parameters, before, after) in stepped().items():
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(parameters)), name
        kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), s) for s in (before, after)]
        assert kinds[0] == kinds[1], name
        moved = jnp.any(parameters["dense"]["kernel"] != KERNEL)
        assert bool(moved), name


def optimizer_of(text):
    return fdl.build(override(fdl.Config(Train), [f"optimizer={text}"])).optimizer


def test_score_odes_clipping_and_vdms_linear_decay_are_settings():
    clipped = optimizer_of("chain(clip_by_global_norm(1.0), optax.sgd(1.0))")
    gradients = jax.tree.map(lambda leaf: 100.0 * jnp.ones_like(leaf), PARAMETERS)
    updates, _ = updated(clipped, gradients, clipped.init(PARAMETERS), PARAMETERS)
    assert float(optax.tree.norm(updates)) == pytest.approx(1.0, rel=1e-5)

    warm, fall = "optax.linear_schedule(0.0, 2e-4, 100)", "optax.linear_schedule(2e-4, 0.0, 900)"
    decaying = optimizer_of(f"AdamW(optax.join_schedules([{warm}, {fall}], [100]))")
    rates = [float(decaying.rate(MOMENT._replace(step=jnp.int32(s)))) for s in (50, 100, 550, 1000)]
    assert rates == pytest.approx([1e-4, 2e-4, 1e-4, 0.0], abs=1e-10)


def test_ours_is_optaxs_adamw_with_the_published_values():
    rate = WarmedUp(peak=1e-2, warmup_steps=2)
    theirs = optax.adamw(rate, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.01, mask=NotBiases())
    one = other = PARAMETERS
    states = [optimizer.init(PARAMETERS) for optimizer in (AdamW(rate), theirs)]
    for count in range(3):
        moment = Moment(jnp.int32(count), jnp.int32(0), 10)
        one, states[0] = step(AdamW(rate), one, states[0], moment)
        other, states[1] = step(theirs, other, states[1])
    for mine, its in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("shape", [(5, 9), (64, 7), (3, 3, 4, 8)])
def test_muons_kernels_are_optaxs_and_their_singular_values_alike(shape):
    kernel, gradient = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    inside, outside = {"conv1": {"kernel": kernel}}, {"conv_out": {"kernel": kernel}}
    dimensions = optax.contrib.MuonDimensionNumbers(tuple(range(len(shape) - 1)), -1)
    settings = {"muon_weight_dimension_numbers": dimensions, "consistent_rms": 0.2}
    theirs = optax.contrib.muon(0.1, weight_decay=0.01, **settings)
    for parameters, other in ((inside, theirs), (outside, AdamW(0.1))):
        gradients = jax.tree.map(lambda _: gradient, parameters)
        found, expected = (
            updated(each, gradients, each.init(parameters), parameters, moment=MOMENT)[0]
            for each in (Muon(0.1), other)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
    spread_out = spread(gradient).reshape(-1, shape[-1])
    values = np.linalg.svd(spread_out, compute_uv=False) / max(spread_out.shape) ** 0.5
    assert 0.65 < values.min() < values.max() < 1.25


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip_by_global_norm(1e-3), AdamW(WarmedUpThenCosine(1e-2, 0), b1=0.0)),
        optax.apply_if_finite(ScaleByLearningRate(WarmedUpThenCosine(1e-2, 0)), 5),
    ],
)
def test_inside_optaxs_combinators_ours_still_knows_its_run(optimizer):
    state = optimizer.init(PARAMETERS)
    moved = {}
    for own in (0, 5, 10):
        moment = Moment(jnp.int32(1000 + own), jnp.int32(1000), 10)
        after, _ = step(optimizer, PARAMETERS, state, moment)
        moved[own] = float(jnp.abs(after["dense"]["kernel"] - KERNEL).sum())
    assert moved[5] == pytest.approx(moved[0] / 2, rel=1e-3)
    assert moved[10] == pytest.approx(0.0, abs=1e-6)


def test_a_schedule_counts_the_steps_of_its_run_and_the_published_warm_up_those_of_all_runs():
    moment = Moment(jnp.int32(1003), jnp.int32(1000), 10)
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    assert float(AdamW(schedule).rate(moment)) == pytest.approx(0.7)
    assert float(AdamW(WarmedUp(0.5, 100)).rate(moment)) == pytest.approx(0.5)
    assert float(AdamW(0.25).rate(moment)) == 0.25


def test_a_warm_start_begins_optaxs_schedules_anew_and_keeps_its_moments():
    optimizer = optax.lion(optax.linear_schedule(1.0, 0.0, 10))
    _, state = step(optimizer, PARAMETERS, optimizer.init(PARAMETERS))
    anew = schedules_begun_anew(state)
    assert (int(state[2].count), int(anew[2].count)) == (1, 0)
    np.testing.assert_array_equal(anew[0].mu["dense"]["bias"], state[0].mu["dense"]["bias"])


def test_the_rate_is_told_where_it_is_known():
    assert known_rate(AdamW(0.5), MOMENT) == {"learning_rate": 0.5}
    assert known_rate(optax.chain(optax.clip(1.0), AdamW(0.5)), MOMENT) == {"learning_rate": 0.5}


@pytest.mark.parametrize(
    "text",
    [
        "chain(clip_by_global_norm(1.0), optax.contrib.muon(optax.constant_schedule(0.01)))",
        "apply_if_finite(masked(lion(0.01), NotBiases()), 5)",
        "noisy_sgd(0.01)",
        "Muon(0.01)",
    ],
)
def test_optaxs_states_are_saved_and_go_on_bit_for_bit(text, tmp_path):
    optimizer = optimizer_of(text)
    parameters, state = step(optimizer, PARAMETERS, optimizer.init(PARAMETERS))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, {"optimizer": state}, {"next_index": 0}, {})
        checkpoints.wait()
        abstract = jax.eval_shape(lambda: {"optimizer": optimizer.init(PARAMETERS)})
        restored = checkpoints.restore(abstract).state["optimizer"]
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    after, again = (step(optimizer, parameters, s)[0] for s in (state, restored))
    jax.tree.map(np.testing.assert_array_equal, after, again)


def test_another_optimiser_than_the_checkpoints_meets_a_sentence(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(
            1, {"optimizer": AdamW().init(PARAMETERS), "step": jnp.int32(1)}, {"next_index": 0}, {}
        )
        checkpoints.wait()
    wanted = jax.eval_shape(lambda: {"optimizer": optax.lion(0.01).init(PARAMETERS)})
    with pytest.raises(UserError, match=r"set train.warm_start.optimizer=False to begin"):
        StoredCheckpoints(tmp_path).restore_parameters(wanted)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "lion(WarmedUpThenCosine())",
            "lion.learning_rate cannot be .* it takes a float, .*function",
        ),
        ("cosine_decay_schedule(1.0, 10)", r"it takes an Optimizer, e.g. .*AdamW"),
        ("chain(1.0, lion(1e-3))", "takes a tuple of GradientTransformation"),
        ("chain()", "chain needs something"),
        ("linear_schedule(1.0, 0.0, 9)", r"\(optax.linear_schedule is another\); it takes an Opt"),
        ("adamw(mask=1)", r"adamw \(optax.adamw is another\) has no field 'mask'"),
        ("lbfgs()", "there is no piece 'lbfgs'"),
    ],
)
def test_what_is_no_optimiser_meets_a_sentence(text, says):
    with pytest.raises(UserError, match=says):
        override(fdl.Config(Train), [f"optimizer={text}"])
