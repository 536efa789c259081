"""Second and third order along a direction: zero in expectation for the exact network alone.

Given z the posterior of x is a mixture of normals, whose moments up to the third Gauss and
Hermite's rule gives exactly; derivatives are held against whole Jacobians and Hessians.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.model import along_images
from diffusion_ode.diffusion.variance_exploding import VarianceExploding
from diffusion_ode.errors import UserError
from diffusion_ode.objectives.high_order import HighOrderDirectional, orders
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import Directional, Identity
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import override
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, exact_model, name_of

SHAPE, N = (1, 3, 1), 3
DRAW = np.random.default_rng(0)
MIXTURE = {
    "weight": np.array([0.3, 0.7]),
    "mean": np.array([[-0.6, 0.2, 0.1], [0.5, -0.1, 0.3]]),
    "variance": np.array([[0.05, 0.4, 0.2], [0.1, 0.02, 0.3]]),
    "rotation": np.linalg.qr(DRAW.normal(size=(N, N)))[0],
}
Z = np.array([0.2, -0.3, 0.1])
V = np.array([1.0, -1.0, 1.0])
GAMMA = -1.0


def posterior(path):
    """Nodes [n, N] and weights [n] that integrate cubic polynomials of x given z exactly."""
    alpha, sigma = (float(part(jnp.asarray(GAMMA))) for part in (path.alpha, path.sigma))
    rotation, variance = MIXTURE["rotation"], MIXTURE["variance"]
    total = alpha**2 * variance + sigma**2
    centred = (Z - alpha * MIXTURE["mean"]) @ rotation
    mean = MIXTURE["mean"] @ rotation + alpha * variance * centred / total
    share = MIXTURE["weight"] * np.exp(-0.5 * np.sum(centred**2 / total + np.log(total), axis=1))
    node, weight = np.polynomial.hermite_e.hermegauss(4)
    grid = np.asarray(list(itertools.product(node, repeat=N)))
    weights = np.prod(list(itertools.product(weight / weight.sum(), repeat=N)), axis=1)
    x = [
        m + grid * np.sqrt(v * sigma**2 / t) for m, v, t in zip(mean, variance, total, strict=True)
    ]
    return np.concatenate(x) @ rotation.T, np.outer(share / share.sum(), weights).ravel()


def found(path, parameterization, off=0.0):
    """Residuals [n, N] at z for every x that may have led there; `off` makes the network wrong."""
    model, (x, weights) = exact_model(path, parameterization, SHAPE), posterior(path)
    gamma = jnp.full(len(x), GAMMA)
    at = along_images(gamma)
    z = jnp.tile(jnp.asarray(Z).reshape(1, *SHAPE), (len(x), 1, 1, 1))
    noise = (z - path.alpha(at) * x.reshape(z.shape)) / path.sigma(at)
    target = model.target(jnp.asarray(x).reshape(z.shape), gamma, noise)
    identity = Identity(
        path.sigma(at),
        parameterization.trace_offset(path, at),
        parameterization.gain(path, at),
    )

    def network(z):
        return model.predict(MIXTURE, z, gamma, jnp.zeros(len(z))) + off * jnp.sin(3.0 * z)

    v = jnp.broadcast_to(jnp.asarray(V).reshape(1, *SHAPE), z.shape)
    return orders(network, z, target, identity, v), weights


def expected(residual, weights):
    return weights @ np.asarray(residual).reshape(len(weights), N)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=name_of)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_residuals_of_the_exact_network_are_zero_in_expectation_and_of_a_wrong_one_are_not(
    path, parameterization
):
    with jax.enable_x64(True):
        right, weights = found(path, parameterization)
        wrong, _ = found(path, parameterization, off=0.1)
    for name in ("second", "third"):
        single = np.abs(np.asarray(getattr(right, name))).max()
        assert np.abs(expected(getattr(right, name), weights)).max() < 1e-9 * single
        assert np.abs(expected(getattr(wrong, name), weights)).max() > 1e-3 * single


def test_residuals_are_those_of_whole_jacobians_and_hessians():
    draw = np.random.default_rng(5)
    matrix, bend = draw.normal(size=(2, N, N))
    z, target, v = draw.normal(size=(3, 2, *SHAPE))
    sigma, offset, gain = 0.7, 0.6, 0.9

    def flat(z):
        return jnp.tanh(matrix @ z) + jnp.sin(bend @ z) ** 2

    def network(z):
        return jax.vmap(flat)(z.reshape(-1, N)).reshape(z.shape)

    with jax.enable_x64(True):
        identity = Identity(*(jnp.full((2, 1, 1, 1), value) for value in (sigma, offset, gain)))
        result = orders(network, *map(jnp.asarray, (z, target)), identity, jnp.asarray(v))
        for i in range(2):
            at, u = z[i].ravel(), v[i].ravel()
            jacobian = np.asarray(jax.jacfwd(flat)(at))
            hessian = np.asarray(jax.jacfwd(jax.jacfwd(flat))(at))  # [output, z, z]
            e = np.asarray(flat(at)) - target[i].ravel()
            second = sigma * jacobian @ u - offset * u + gain * (u @ e) * e
            bracket = (offset * u @ u - sigma * u @ jacobian @ u) * e
            bracket += 2.0 * (u @ e) * (offset * u - sigma * jacobian @ u)
            third = sigma**2 * np.einsum("i,ijk,j->k", u, hessian, u)
            third += gain**2 * (u @ e) ** 2 * e - gain * bracket
            np.testing.assert_allclose(result.second[i].ravel(), second, rtol=1e-9)
            np.testing.assert_allclose(result.third[i].ravel(), third, rtol=1e-9)


def test_squares_are_weighted_and_lower_orders_carry_no_gradient_into_higher_ones():
    z, target = jnp.ones((1, *SHAPE)), jnp.full((1, *SHAPE), 0.4)
    v = jnp.asarray(V, jnp.float32).reshape(1, *SHAPE)
    identity = Identity(*(jnp.full((1, 1, 1, 1), value) for value in (0.7, 0.6, 0.9)))

    def squared(weights, level, slope, bend):
        """Of a network of this value, first and second derivative, each a parameter."""

        def network(z):
            return level + slope * (z - 1.0) + 0.5 * bend * jnp.square(z - 1.0)

        residual = HighOrderDirectional(*weights)
        return residual.estimate(network, z, target, identity, (v,)).squared[0]

    at = (0.9, 1.3, 0.8)
    gradient = jax.grad(squared, argnums=(1, 2, 3))
    full, lower, trace = (
        np.asarray(gradient(w, *at)) for w in ((1, 1, 2.0), (1, 1, 0.0), (1, 0, 0.0))
    )
    assert full[0] == lower[0] == 0.0  # no error of the first order in a higher one
    assert full[1] == pytest.approx(lower[1], rel=1e-5)  # nor one of the second in the third
    assert lower[2] == 0.0 and abs(full[2]) > 0.01
    assert abs(trace[1]) > 0.01 and abs(lower[1] - trace[1]) > 0.01
    directional = Directional().estimate(
        lambda z: at[0] + at[1] * (z - 1.0), z, target, identity, (v,)
    )
    assert float(squared((1, 0, 0.0), *at)) == pytest.approx(
        float(directional.squared[0]), rel=1e-5
    )
    third = squared((0, 1, 2.0), *at) - squared((0, 1, 0.0), *at)
    e, sigma_j = 0.5, 0.7 * 1.3
    along = e * float(V.sum())
    implied = N * (0.6 - sigma_j) * e + 2 * along * (0.6 - sigma_j) * V - 0.9 * along**2 * e
    vector = 0.49 * 0.8 - 0.9 * implied
    assert float(third) == pytest.approx(2.0 / N * np.sum(vector**2), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HighOrderDirectional(trace=-1.0), r"trace = -1\.0 is not a float in \[0, "),
        (lambda: HighOrderDirectional(frobenius=float("inf")), "frobenius = inf"),
        (lambda: HighOrderDirectional(frobenius=0.0, third_order=1.0), "by a single probe"),
        (lambda: HighOrderDirectional(trace=0.0, frobenius=0.0), "leave nothing of the higher"),
    ],
)
def test_orders_that_make_no_sense_are_refused_with_a_remedy(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_third_order_by_a_single_probe_and_noise_without_end_are_refused_in_a_sentence():
    config = registry.configuration_of(registry.find("digits_vp_finetune"))
    with pytest.raises(UserError, match=r"SingleProbe.*third_order.*for high_order"):
        override(config, ["train.objective.residual=SingleProbe(third_order=1.0)"])
    with pytest.raises(UserError, match=r"gamma_1 = inf is not a float in \[-80, 80\]"):
        exact_model(PATHS[2], PARAMETERIZATIONS[0], gamma_1=float("inf"))
    config = registry.configuration_of(registry.find("digits_score_ode_1"))
    for gamma, times in ((33.28, "uniform_times()"), (80.0, "importance_sampled_times()")):
        far = [f"train.objective.times={times}", f"model.schedule.gamma_1={gamma}"]
        with pytest.raises(UserError, match=rf"gamma_1 = {gamma} on VarianceExploding.*give one b"):
            build(override(config, far))
    build(override(config, ["model.schedule.gamma_1=33.27"]))


def test_float32_loses_the_image_where_the_noise_end_is_refused():
    kept, lost = VarianceExploding().sigma(jnp.asarray([33.27, 33.28], jnp.float32))
    assert kept + jnp.float32(0.99) != kept and lost + jnp.float32(0.99) == lost


def test_the_objective_adds_all_orders_under_their_weights():
    """Image by image, by whole Jacobians and Hessians; for noise prediction a = k = 1."""
    residual = HighOrderDirectional(trace=1.3, frobenius=0.6, third_order=2.0)
    objective = SecondOrderFlowMatching(weight=0.7, residual=residual)
    model, count = exact_model(PATHS[2], PARAMETERIZATIONS[1], SHAPE), 4
    with jax.enable_x64(True):
        data = jax.tree.map(jnp.asarray, MIXTURE)
        images = jnp.asarray(np.random.default_rng(1).normal(size=(count, *SHAPE)))
        draws = objective.draw(model, images, jax.random.key(0), ())
        draws = jax.tree.map(lambda part: part.astype(jnp.float64), draws)
        terms = jax.jit(
            lambda: objective.loss(model, data, images, jnp.zeros(count), draws, None)
        )()
        draws, terms = jax.tree.map(np.asarray, (draws, terms))
        assert np.all(np.abs(draws.probes[0]) == 1.0) and np.ptp(draws.probes[0], axis=0).any()

        @jax.jit
        @jax.vmap
        def derivatives(z, gamma):
            def network(z):
                one = jnp.zeros(1)
                return model.predict(data, z.reshape(1, *SHAPE), gamma + one, one).ravel()

            slope = jax.jacfwd(network)
            return network(z), slope(z), jax.jacfwd(slope)(z)

        sigma = np.exp(0.5 * draws.gamma)
        noise, probe = (np.reshape(a, (count, N)) for a in (draws.noise, draws.probes[0]))
        z = images.reshape(count, N) + sigma[:, None] * noise
        found = map(np.asarray, derivatives(z, draws.gamma))
    for i, (output, jacobian, hessian) in enumerate(zip(*found, strict=True)):
        v, e = probe[i], output - noise[i]
        known, along = v - sigma[i] * jacobian @ v, v @ e
        second = along * e - known
        third = sigma[i] ** 2 * np.einsum("i,ijk,j->k", v, hessian, v)
        third += along**2 * e - (v @ known) * e - 2.0 * along * known
        higher = 1.3 * (v @ second) ** 2 + 0.6 * second @ second + 2.0 / N * third @ third
        weight = 0.5 / float(draws.density[i])
        got = terms.bound[i], terms.parts["second_order"][i], terms.loss[i]
        expected = weight * np.array([e @ e, higher / N, e @ e + 0.7 * higher / N])
        np.testing.assert_allclose(got, expected, rtol=1e-9)
