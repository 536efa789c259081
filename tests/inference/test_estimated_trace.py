"""What the noise of an estimated trace does to several weighted draws: it makes them too likely."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.dequantization import UniformDequantization
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.inference.draw_combination import AveragedDraws, ImportanceWeighted
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.bogacki_shampine3 import BogackiShampine3
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.hutch_plus_plus import HutchPlusPlus
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.pi_controller import PIController

SHAPE, LEVELS = (4, 4, 1), 4
IMAGES, DRAWS = 48, 8


class Nonlinear(nn.Module):
    """A Jacobian that is far from diagonal and turns with z."""

    @nn.compact
    def __call__(self, z, time, flag, sigma, *, deterministic=True):
        del flag, sigma, deterministic
        features = jnp.concatenate([z.reshape(z.shape[0], -1), time[:, None]], axis=1)
        hidden = jnp.sin(nn.Dense(64)(3.0 * features))
        return z + 0.5 * nn.Dense(16)(hidden).reshape(z.shape)


def solved(divergence, draw, probe_key, solver=Adams(), images=IMAGES, lanes=IMAGES):  # noqa: B008
    """Every image's likelihood, with the noise of that number."""
    model = Model(
        VariancePreserving(),
        LinearSchedule(-2.0 * np.log(3.0187 * LEVELS), 5.0),
        VelocityPrediction(),
        Nonlinear(),
        Pixels(SHAPE, LEVELS),
    )
    parameters = model.init(jax.random.key(7))
    controller = PIController(1e-3, 1e-3, 1e-3)
    ode = OdeLikelihood(
        UniformDequantization(), solver, controller, divergence=divergence, lanes=lanes
    )
    levels = np.random.default_rng(0).integers(0, LEVELS, (IMAGES, *SHAPE))[:images]
    keys = {"key": jax.random.key(draw), "probe_key": jax.random.key(probe_key)}
    return sorted(ode.of_images(model, parameters, enumerate(levels), **keys))


def log_likelihoods(*args, **options):
    return np.asarray([image.log_likelihood for image in solved(*args, **options)])


def log_weights(divergence):
    """[IMAGES, DRAWS]: the same noise for every divergence, and one probe for all of an image."""
    return np.transpose([log_likelihoods(divergence, draw, 99) for draw in range(DRAWS)])


def mean_and_error(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def test_draws_that_share_one_probe_err_by_different_amounts():
    errors = log_weights(HutchinsonTrace()) - log_weights(ExactTrace())
    # A single draw errs with either sign: it is a bound in expectation.
    mean, error = mean_and_error(errors.mean(axis=1))
    assert abs(mean) < 3 * error
    # Over the draws of an image the errors differ as they do over images: little is common to them.
    assert errors.std(axis=1, ddof=1).mean() > 0.5 * errors.mean(axis=1).std(ddof=1) > 0.5


@pytest.mark.parametrize("solver", [Adams(), BogackiShampine3()], ids=["Adams", "Runge-Kutta"])
def test_renewed_probes_move_no_step_and_err_by_less_around_the_same_mean(solver):
    exact = log_likelihoods(ExactTrace(), 0, 0, solver)
    evaluations, errors = {}, {}
    for segments in (1, 64):
        trace = HutchinsonTrace(segments=segments)
        found = [solved(trace, 0, probe_key, solver) for probe_key in range(4)]
        evaluations[segments] = np.asarray([[image.nfe for image in images] for images in found])
        values = np.asarray([[image.log_likelihood for image in images] for images in found])
        errors[segments] = values - exact
        mean, error = mean_and_error(errors[segments].mean(axis=0))
        assert abs(mean) < 3 * error
    assert errors[64].std() < 0.5 * errors[1].std()
    # Steps that followed the estimate would choose among its errors.
    assert (evaluations[64] == evaluations[64][0]).all()
    assert not (evaluations[1] == evaluations[1][0]).all()


def test_renewed_probes_are_an_images_own_wherever_it_is_solved():
    trace = HutchinsonTrace(segments=64)
    some = log_likelihoods(trace, 0, 5, images=7, lanes=3)
    np.testing.assert_allclose(some, log_likelihoods(trace, 0, 5)[:7], rtol=2e-4)
    assert trace.held() == HutchinsonTrace()
    assert (trace.in_words, HutchinsonTrace(4).in_words) == ("1 probe, renewed", "4 probes")


def test_noise_in_the_weights_makes_the_bound_exceed_what_it_bounds():
    # w = log P + s ε − s²/2 has E exp(w) = P, here 1: no bound may exceed 0 in the mean.
    rng = np.random.default_rng(0)
    repeats, draws, s = 2000, 20, 1.0
    weights = s * rng.normal(size=(repeats, draws)) - 0.5 * s**2
    noise = 2.0 * rng.normal(size=(repeats, draws))  # of mean zero, as a trace's error is
    common = 2.0 * rng.normal(size=(repeats, 1))

    def bound(values, combination):
        return mean_and_error([combination(draws) for draws in values])

    mean, error = bound(weights, ImportanceWeighted())
    assert -0.1 < mean < 3 * error
    mean, error = bound(weights + common, ImportanceWeighted())  # what one probe removes
    assert mean < 3 * error
    mean, error = bound(weights + noise, ImportanceWeighted())  # what it leaves
    assert mean > 10 * error
    mean, error = bound(weights + noise, AveragedDraws())
    assert abs(mean + 0.5 * s**2) < 3 * error


@pytest.mark.parametrize(
    ("options", "count", "expected"),
    [
        ({}, 1, True),
        ({}, 2, False),
        ({"divergence": HutchinsonTrace(16)}, 2, False),
        ({"divergence": HutchPlusPlus(6)}, 2, False),
        ({"divergence": ExactTrace()}, 2, True),
        ({"combination": AveragedDraws()}, 2, True),
    ],
)
def test_only_weighted_draws_with_an_estimated_trace_give_no_code_lengths(options, count, expected):
    assert OdeLikelihood(**options).gives_code_lengths(count) is expected
