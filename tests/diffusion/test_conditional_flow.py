"""The flow of a learned dequantisation: its formula, its density, its places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from diffusion_ode.diffusion.conditional_flow import ConditionalFlow

SHAPE = (2, 2, 1)
FLOW = ConditionalFlow(features=8, couplings=2, components=2)


def test_log_q_is_that_of_the_change_of_variables():
    with jax.enable_x64(True):
        noise = jax.random.normal(jax.random.key(1), (1, *SHAPE))
        x = jax.random.uniform(jax.random.key(2), (1, *SHAPE))
        numbers = np.random.default_rng(3)
        parameters = jax.tree.map(
            lambda p: p + 0.1 * numbers.normal(size=p.shape).astype(p.dtype),
            FLOW.init(jax.random.key(0), noise, x)["params"],
        )
        assert {tuple(part["kernel"].shape[:2]) for part in parameters.values()} == {(3, 3)}

        def places(flat):
            return FLOW.apply({"params": parameters}, flat.reshape(noise.shape), x)[0].ravel()

        u, log_q = FLOW.apply({"params": parameters}, noise, x)
        slopes = np.asarray(jax.jacobian(places)(noise.ravel()))
        expected = stats.norm.logpdf(np.asarray(noise)).sum() - np.linalg.slogdet(slopes)[1]
        assert log_q.shape == (1,)
        assert float(log_q[0]) == pytest.approx(expected, abs=1e-8)
        assert np.all((u > 0.0) & (u < 1.0))
        # On a draughtboard either half is moved by the other.
        assert np.all(np.abs(slopes[np.ix_([0, 3], [1, 2])]) > 0.0)


def test_a_coupling_is_the_formula_s_mixture_of_logistic_distributions():
    numbers = np.random.default_rng(0)
    y, raw = numbers.normal(size=(3, 1)), numbers.normal(size=(3, 1, 8))
    logits, centres, sharpness, ends = np.split(raw, 4, axis=-1)
    share = special.softmax(logits, axis=-1)
    sharpness = np.exp(3.0 * np.tanh(sharpness / 3.0))
    mixed = np.sum(share * special.expit((y[..., None] - centres - [-1.0, 1.0]) * sharpness), -1)
    moved, _ = FLOW._moved(jnp.asarray(y, jnp.float32), jnp.asarray(raw, jnp.float32))
    expected = special.logit(mixed) * np.exp(ends[..., 0]) + ends[..., 1]
    np.testing.assert_allclose(moved, expected, rtol=1e-4)
