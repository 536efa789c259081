"""The two forms of the flow: as it is, and with its linear part apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_ode.diffusion.integration_variable import (
    ImportanceVariable,
    LogSnrVariable,
    NaturalVariable,
)
from diffusion_ode.diffusion.model import along_images
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.solvers.exact_trace import ExactTrace
from tests.gaussian_oracle import PARAMETERIZATIONS, PATHS, exact_model, gaussian, name_of

VARIABLES = [LogSnrVariable(), NaturalVariable(), ImportanceVariable(), LogSnrVariable()]


@pytest.mark.parametrize(
    ("path", "variable", "parameterization"),
    list(zip(PATHS, VARIABLES, [*PARAMETERIZATIONS, PARAMETERIZATIONS[0]], strict=True)),
    ids=name_of,
)
def test_the_semilinear_form_is_the_same_flow(path, variable, parameterization):
    """Both dz/ds = (d log a/ds) z + a (dτ/ds) x̂, and its divergence."""
    with jax.enable_x64(True):
        model, data = exact_model(path, parameterization), gaussian()
        flow = ProbabilityFlow(model, variable, ExactTrace())
        gamma = jnp.asarray([-2.0, 1.5])
        s = variable.value(path, gamma)
        z = jax.random.normal(jax.random.key(0), (2, 2, 2, 1))
        value, trace = jax.jit(flow)(data, s, z, None)
        x, of_x = jax.jit(flow.nonlinear)(data, s, z, None)
        log_scale, rate = jax.jvp(flow.log_scale, (s,), (jnp.ones(2),))
        log_clock, pace = jax.jvp(flow.log_clock, (s,), (jnp.ones(2),))
        gain = jnp.exp(log_scale + log_clock) * pace
        expected = along_images(rate) * z + along_images(gain) * x
        np.testing.assert_allclose(value, expected, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(trace, 4.0 * rate + gain * of_x, rtol=1e-7)
        np.testing.assert_allclose(flow.unit(s), path.sigma(gamma))
        ends = [float(variable.value(path, jnp.asarray(end))) for end in (-6.0, 5.0)]
        np.testing.assert_allclose(flow.span, ends, rtol=1e-5)
