"""With a base and a network that answers zero, Gaussian data have their closed form."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.covariance import FullCovariance, StationaryCovariance
from diffusion_ode.diffusion.gaussian_base import BASE, GaussianBase
from diffusion_ode.diffusion.integration_variable import LogSnrVariable
from diffusion_ode.diffusion.prior import FittedPrior, GaussianPrior
from diffusion_ode.errors import UserError
from diffusion_ode.inference.ancestral_sampling import AncestralSampler
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from tests.crossed import crossed
from tests.gaussian_oracle import (
    PARAMETERIZATIONS,
    PATHS,
    ExactNetwork,
    Keeps,
    exact_model,
    gaussian,
    in_float32,
    name_of,
)

DATA = gaussian()
SHAPE = (2, 2, 1)
STATISTICS = {
    "mean": DATA["mean"][0].reshape(SHAPE),
    "basis": DATA["rotation"],
    "variance": DATA["variance"][0].reshape(SHAPE),
}


@dataclass(frozen=True)
class Silent:
    """A network that answers a multiple of z, by default nothing."""

    share: float = 0.0

    def apply(self, variables, z, *about, **more):
        del about, more
        assert BASE not in variables["params"]
        return self.share * z


@pytest.mark.parametrize("path", PATHS, ids=name_of)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=name_of)
def test_the_base_is_the_best_network_for_gaussian_data_and_its_trace_is_exact(
    path, parameterization
):
    with jax.enable_x64(True):
        exact = exact_model(path, parameterization)
        based = replace(exact, network=Silent(), base=GaussianBase(FullCovariance()))
        z = jnp.asarray(np.random.default_rng(0).normal(size=(5, *SHAPE)))
        s, nothing = jnp.linspace(-6.0, 5.0, 5), jnp.zeros((5, 0))
        zero = jnp.zeros(5)
        expected = exact.predict(DATA, z, s, zero)
        found = based.predict({BASE: STATISTICS}, z, s, zero)
        assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)

        flow = ProbabilityFlow(exact, LogSnrVariable(), ExactTrace())
        probe = jnp.ones((5, 1, *SHAPE))  # of which an exact trace takes no notice
        of_base = ProbabilityFlow(based, LogSnrVariable(), HutchinsonTrace())
        for method in ("__call__", "nonlinear"):
            value, trace = getattr(flow, method)(DATA, s, z, nothing)
            own_value, own_trace = getattr(of_base, method)({BASE: STATISTICS}, s, z, probe)
            assert np.allclose(own_value, value, rtol=1e-9, atol=1e-9)
            assert np.allclose(own_trace, trace, rtol=1e-9, atol=1e-9)


def test_the_networks_share_is_added_in_value_and_trace():
    with jax.enable_x64(True):
        base = GaussianBase(FullCovariance())
        model = exact_model(PATHS[0], PARAMETERIZATIONS[0])
        z, s = jnp.ones((2, *SHAPE)), jnp.asarray([-3.0, 2.0])
        flows = [
            ProbabilityFlow(
                replace(model, network=Silent(a), base=base), LogSnrVariable(), ExactTrace()
            )
            for a in (0.0, 0.5)
        ]
        without, with_it = (flow({BASE: STATISTICS}, s, z, jnp.zeros((2, 0))) for flow in flows)
        gain = 0.5 * PATHS[0].sigma(s) * PATHS[0].alpha(s)
        assert np.allclose(with_it[0] - without[0], 0.5 * gain[:, None, None, None] * z)
        assert np.allclose(with_it[1] - without[1], 0.5 * gain * 4)


@dataclass(frozen=True)
class Both(ExactNetwork):
    """Answers what a base does for Gaussian data, and a multiple of z."""

    share: float = 0.0

    def apply(self, variables, z, *about, **more):
        return super().apply(variables, z, *about, **more) + self.share * z


@pytest.mark.parametrize(
    ("path", "parameterization"), crossed(PATHS[:2], PARAMETERIZATIONS[:2]), ids=name_of
)
def test_losses_and_samples_are_those_of_a_network_that_answers_for_both(path, parameterization):
    base, data, of_base = GaussianBase(FullCovariance()), in_float32(DATA), in_float32(STATISTICS)
    exact = exact_model(path, parameterization)
    both = Both(path, exact.schedule, parameterization, share=0.3)
    whole = replace(exact, network=both, prior=GaussianPrior(base, of_base))
    statistics = {BASE: of_base}
    based = replace(exact, network=Silent(0.3), base=base, prior=FittedPrior()).bound(statistics)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(6, *SHAPE)), jnp.float32)
    for objective in (FlowMatching(), SecondOrderFlowMatching(every=2)):
        draws = objective.draw(whole, images, jax.random.key(2), ())
        expected, found = (
            jax.jit(objective.loss, static_argnums=0)(*of, images, jnp.zeros(6), draws, None).loss
            for of in ((whole, data), (based, statistics))
        )
        assert np.min(expected) > 1e-3
        assert np.allclose(found, expected, rtol=1e-4)
    sampler = AncestralSampler(5, Keeps(), 4)  # of a flow's samples the drift is tested above
    expected, found = (
        [drawn.image for drawn in sorted(sampler.draw(*of, range(4), jax.random.key(3)))]
        for of in ((whole, data), (based, statistics))
    )
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)


def correlated_levels(count: int) -> np.ndarray:
    """Images 4×4×2 whose neighbours and channels are alike, of 64 levels."""
    noise = np.random.default_rng(1).normal(size=(count, 6, 6, 2))
    smooth = sum(noise[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3))
    mixed = smooth @ np.array([[1.0, 0.8], [0.0, 0.6]])
    return np.clip(np.round(32 + 4 * mixed), 0, 63).astype(np.uint8)


@pytest.mark.parametrize("covariance", [FullCovariance(), StationaryCovariance()], ids=name_of)
def test_fitted_coordinates_are_uncorrelated_and_lead_back(covariance):
    images = correlated_levels(6000)
    base = GaussianBase(covariance)
    with jax.enable_x64(True):
        fitted = base.fit(images, 64)
        kinds = jax.tree.map(jnp.shape, base.init((4, 4, 2)))
        assert jax.tree.map(np.shape, fitted) == kinds
        x = (2.0 * images + 1.0) / 64 - 1.0
        along = covariance.coordinates(fitted["basis"], jnp.asarray(x - fitted["mean"]))
        assert np.allclose(np.mean(along, axis=0), 0.0, atol=1e-10)
        assert np.allclose(np.var(along, axis=0), fitted["variance"], atol=1e-6)
        across = np.einsum("nijc,nijd->ijcd", along, along) / len(images)
        assert np.allclose(across[..., 0, 1], 0.0, atol=1e-10)
        assert np.allclose(covariance.images(fitted["basis"], along) + fitted["mean"], x)
        assert np.ptp(np.asarray(fitted["variance"])) > 0.1  # neighbours are alike


def test_a_value_that_is_always_the_same_is_not_certain():
    images = np.full((99, 2, 2, 1), 3, np.uint8)
    variance = GaussianBase().fit(images, 16)["variance"]
    assert np.allclose(variance, (2 / 16) ** 2 / 99)


def test_fewer_images_than_values_do_not_tell_a_full_covariance():
    with pytest.raises(UserError, match="32 training images do not tell a full covariance of 32"):
        GaussianBase(FullCovariance()).fit(correlated_levels(32), 64)


def test_a_full_covariance_is_for_small_images():
    with pytest.raises(UserError, match=r"12288² numbers, .* give --set 'model\.base"):
        GaussianBase(FullCovariance()).init((64, 64, 3))
