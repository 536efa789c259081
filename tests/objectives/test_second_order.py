"""The second-order identity, and what each estimator of its squared residual has for a mean.

In four dimensions there are sixteen Rademacher probes: expectations over them are exact sums.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import (
    Directional,
    ExactTraceResidual,
    Identity,
    IndependentProbes,
    SingleProbe,
)
from tests.gaussian_oracle import (
    PARAMETERIZATIONS,
    PATHS,
    draw_data,
    exact_model,
    gaussian,
    name_of,
    noised_variance,
)
from tests.small_network import SmallNetwork

N = 4
SHAPE = (2, 2, 1)
DATA = gaussian()
PROBES = jnp.asarray(list(itertools.product([-1.0, 1.0], repeat=N))).reshape(-1, 1, *SHAPE)
MATRIX = np.random.default_rng(3).normal(size=(N, N)).astype(np.float32)
ERROR = np.random.default_rng(4).normal(size=(1, *SHAPE)).astype(np.float32)
SIGMA, OFFSET, GAIN = 0.7, 0.6, 0.9
IDENTITY = Identity(*(jnp.full((1, 1, 1, 1), value) for value in (SIGMA, OFFSET, GAIN)))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=name_of)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_exact_network_has_no_residual_when_its_error_is_the_expected_one(path, parameterization):
    with jax.enable_x64(True):
        model = exact_model(path, parameterization)
        gamma = jnp.asarray([-6.0, -2.0, 0.5, 5.0])
        z = jnp.asarray(draw_data(DATA, 1).reshape(1, *SHAPE))

        @jax.jit
        @jax.vmap
        def trace(at):
            def output(z):
                return model.predict(DATA, z, at[None], jnp.zeros(1))

            return jnp.trace(jax.jacfwd(output)(z).reshape(N, N))

        variances = np.stack([noised_variance(path, DATA, at) for at in gamma])
        alpha = np.asarray(path.alpha(gamma))[:, None]
        noise_error = np.sum(alpha**2 * DATA["variance"] / variances, axis=1)
        left = np.asarray(path.sigma(gamma) * trace(gamma))
        offset = np.asarray(parameterization.trace_offset(path, gamma))
        right = offset * N - noise_error / np.asarray(parameterization.gain(path, gamma))
        assert np.allclose(left, right, rtol=1e-8, atol=1e-8)


def residuals(estimator, probes):
    """R² of every choice of probes for F(z) = Mz, with a given error."""

    def network(z):
        return (z.reshape(-1, N) @ MATRIX.T).reshape(z.shape)

    z = jnp.ones((1, *SHAPE))
    target = network(z) - ERROR

    def one(*chosen):
        return estimator.estimate(network, z, target, IDENTITY, chosen).squared[0]

    return np.asarray(jax.vmap(one)(*probes), np.float64)


def exact_residual():
    return SIGMA * np.trace(MATRIX) - (OFFSET * N - GAIN * np.sum(ERROR**2))


def test_exact_trace_gives_the_residual_itself():
    network = jax.jit(lambda z: (z.reshape(-1, N) @ MATRIX.T).reshape(z.shape))
    z = jnp.ones((1, *SHAPE))
    for chunk in (3, 16):
        found = ExactTraceResidual(chunk).estimate(network, z, network(z) - ERROR, IDENTITY, ())
        assert found.squared[0] == pytest.approx(exact_residual() ** 2, rel=1e-5)


def test_independent_probes_are_unbiased_and_single_ones_may_be_negative():
    pairs = [jnp.repeat(PROBES, 16, axis=0), jnp.tile(PROBES, (16, 1, 1, 1, 1))]
    values = residuals(IndependentProbes(), pairs)
    assert values.mean() == pytest.approx(exact_residual() ** 2, rel=1e-4)
    assert values.min() < 0


def test_two_probes_are_drawn_and_they_know_nothing_of_each_other():
    # The expectation above is over all pairs; this is that such pairs are what training draws.
    shape = (8, 16, 16, 3)
    probes = IndependentProbes().draw_probes(jax.random.key(0), shape)
    assert len(probes) == 2
    first, second = (np.asarray(probe) for probe in probes)
    assert first.shape == second.shape == shape
    assert set(np.unique([first, second])) == {-1.0, 1.0}
    allowed = 5 / np.sqrt(first.size)
    for product in (first * second, first, second, first[:4] * first[4:], first[:4] * second[4:]):
        assert abs(product.mean()) < allowed * np.sqrt(first.size / product.size)


def test_published_single_probe_adds_the_variance_of_the_trace_estimate():
    values = residuals(SingleProbe(), [PROBES])
    symmetric = (MATRIX + MATRIX.T) / 2
    variance = 2 * (np.sum(symmetric**2) - np.sum(np.diag(symmetric) ** 2))
    expected = exact_residual() ** 2 + SIGMA**2 * variance
    assert values.mean() == pytest.approx(expected, rel=1e-4)


def test_directional_residual_is_the_identity_along_the_probe():
    values = residuals(Directional(), [PROBES])
    v = np.asarray(PROBES, np.float64).reshape(-1, N)
    along = np.einsum("pi,ij,pj->p", v, MATRIX, v)
    expected = SIGMA * along - OFFSET * N + GAIN * (v @ ERROR.ravel()) ** 2
    assert np.allclose(values, expected**2, rtol=1e-4, atol=1e-5)
    # Its mean over probes is the trace's residual, so it asks for no less than the trace does.
    assert expected.mean() == pytest.approx(exact_residual(), rel=1e-4)


def test_residuals_error_carries_no_gradient():
    def squared(scale):
        def network(z):
            return scale * z

        z = jnp.ones((1, *SHAPE))
        # With the probe's derivative along it: scale·N; the error is scale·z − target.
        estimate = SingleProbe().estimate(network, z, z - ERROR, IDENTITY, (PROBES[5],))
        return estimate.squared[0]

    scale = 1.3
    error = scale - 1.0 + ERROR
    residual = SIGMA * scale * N - OFFSET * N + GAIN * np.sum(error**2)
    expected = 2 * residual * SIGMA * N  # no term from the error
    assert jax.grad(squared)(scale) == pytest.approx(expected, rel=1e-4)


def test_second_term_on_every_second_image_counts_twofold_and_leaves_the_first_as_it_is():
    model = Model(
        PATHS[0], LinearSchedule(-4.0, 4.0), PARAMETERIZATIONS[0], SmallNetwork(), Pixels(SHAPE, 5)
    )
    parameters = model.init(jax.random.key(0))
    images, flag = jnp.arange(16).reshape(4, *SHAPE) % 5, jnp.zeros(4)
    whole = SecondOrderFlowMatching(residual=SingleProbe())
    draws = whole.draw(model, images, jax.random.key(1), ())

    def terms(every):
        objective = dataclasses.replace(whole, every=every)
        return objective.loss(model, parameters, images, flag, draws, None)

    def parts(every):
        found = terms(every)
        return {"diffusion": found.bound, **found.parts}

    expected, found = parts(1), parts(2)
    first = FlowMatching().loss(model, parameters, images, flag, draws, None).loss
    assert np.allclose(expected["diffusion"], first, rtol=1e-5)
    x, at = model.pixels.encode(images), draws.gamma[:, None, None, None]
    identity = Identity(
        model.path.sigma(at),
        model.parameterization.trace_offset(model.path, at),
        model.parameterization.gain(model.path, at),
    )
    squared = SingleProbe().estimate(
        lambda z: model.predict(parameters, z, draws.gamma, flag),
        model.noised(x, draws.gamma, draws.noise),
        model.target(x, draws.gamma, draws.noise),
        identity,
        draws.probes,
    )[1]
    weighed = 0.5 * identity.gain.ravel() ** 2 / draws.density * squared / N
    assert np.allclose(expected["second_order"], weighed, rtol=1e-4)
    assert np.allclose(terms(1).loss, first + 0.1 * weighed, rtol=1e-4)
    assert np.allclose(found["diffusion"], expected["diffusion"], rtol=1e-5)
    second = np.asarray(expected["second_order"])
    assert np.allclose(found["second_order"], [2 * second[0], 0, 2 * second[2], 0], rtol=1e-4)
    with pytest.raises(UserError, match="every = 3 does not divide the 4 images"):
        parts(3)


@pytest.mark.parametrize(
    ("objective", "directions"),
    [
        (FlowMatching(), 0.0),
        (SecondOrderFlowMatching(residual=SingleProbe()), 1.0),
        (SecondOrderFlowMatching(residual=IndependentProbes(), every=4), 0.5),
        (SecondOrderFlowMatching(residual=ExactTraceResidual()), N),
    ],
)
def test_a_step_differentiates_the_network_along_its_probes(objective, directions):
    model = Model(PATHS[0], LinearSchedule(-4.0, 4.0), PARAMETERIZATIONS[0], None, Pixels(SHAPE, 5))
    assert objective.directions(model) == directions


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SecondOrderFlowMatching(weight=-0.1), "weight = -0.1"),
        (lambda: SecondOrderFlowMatching(every=0), "every = 0"),
        (lambda: SecondOrderFlowMatching(weight=float("nan")), "weight = nan"),
        (lambda: ExactTraceResidual(0), "chunk = 0"),
    ],
)
def test_impossible_choices_are_refused_with_a_remedy(make, words):
    with pytest.raises(UserError, match=words):
        make()
