"""Every path, parameterisation, sampler, objective and estimator goes with every other."""

import jax
import jax.numpy as jnp
import pytest

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.time_sampling import (
    AdaptiveTimes,
    DiscreteTimes,
    ImportanceSampledTimes,
    UniformTimes,
)
from diffusion_ode.diffusion.uniforms import IndependentUniforms
from diffusion_ode.diffusion.weighting import (
    LikelihoodWeighting,
    MonotoneWeighting,
    SigmoidWeighting,
    UnweightedError,
)
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.objectives.trace_residual import (
    Directional,
    ExactTraceResidual,
    IndependentProbes,
    SingleProbe,
)
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, name_of
from tests.small_network import SmallNetwork

SHAPE = (2, 3, 2)  # height, width and channels all differ from one another or from 1 and 3
TIMES = [
    UniformTimes(uniforms=IndependentUniforms()),
    ImportanceSampledTimes(),
    DiscreteTimes(7),
    AdaptiveTimes(bins=4),
]
WEIGHTINGS = [LikelihoodWeighting(), UnweightedError(), SigmoidWeighting(), MonotoneWeighting()]
RESIDUALS = [SingleProbe(), IndependentProbes(), Directional(), ExactTraceResidual(5)]
OBJECTIVES = [
    *(FlowMatching(times, weighting) for times, weighting in zip(TIMES, WEIGHTINGS, strict=True)),
    *(
        SecondOrderFlowMatching(times=TIMES[1], residual=residual, weighting=weighting)
        for residual, weighting in zip(RESIDUALS, WEIGHTINGS[::-1], strict=True)
    ),
]


def loss_of(path, parameterization, objective, levels=5):
    model = Model(
        path, LinearSchedule(-4.0, 4.0), parameterization, SmallNetwork(), Pixels(SHAPE, levels)
    )
    images = jnp.zeros((3, *SHAPE), jnp.int32).at[1].set(levels - 1)

    def loss(parameters, key):
        draws = objective.draw(model, images, key, objective.times.init())
        terms = objective.loss(model, parameters, images, jnp.zeros(3), draws, None)
        return jnp.mean(terms.loss), terms

    return model, loss


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=name_of)
@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_every_combination_gives_a_loss_per_image_and_a_gradient(path, parameterization, strict):
    for objective in OBJECTIVES:
        model, loss = loss_of(path, parameterization, objective)
        parameters = jax.eval_shape(model.init, jax.random.key(0))
        gradient, terms = jax.eval_shape(
            jax.grad(loss, has_aux=True), parameters, jax.random.key(0)
        )
        assert terms.loss.shape == (3,)
        assert all(part.shape == (3,) for part in terms.parts.values())
        assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, parameters)


@pytest.mark.parametrize(
    ("path", "parameterization", "objective"),
    [
        (PATHS[0], PARAMETERIZATIONS[1], OBJECTIVES[3]),
        (PATHS[1], PARAMETERIZATIONS[0], OBJECTIVES[5]),
        (PATHS[1], PARAMETERIZATIONS[2], OBJECTIVES[6]),
    ],
    ids=name_of,
)
def test_losses_and_gradients_are_finite(path, parameterization, objective):
    model, loss = loss_of(path, parameterization, objective)
    parameters = jax.jit(model.init)(jax.random.key(0))
    gradient, terms = jax.jit(jax.grad(loss, has_aux=True))(parameters, jax.random.key(1))
    assert jnp.isfinite(terms.loss).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
