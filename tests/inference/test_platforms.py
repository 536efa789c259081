"""What each task compiles, lowered for GPUs and TPUs, where loops are the device's own.

No such device is needed to trace and lower a program: what a platform has no rule for, or a loop
whose carry changes its type, is noticed here. Where TPU's compiler is installed it compiles them.
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax import export

from diffusion_ode.backend import compiling_for
from diffusion_ode.coding import chain, losses
from diffusion_ode.costs.target import slice_devices
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.inference import ancestral_sampling, likelihood, sampling
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.solvers import drivers
from diffusion_ode.solvers.divergence import draw_probes
from diffusion_ode.solvers.integrator import integrator_of
from diffusion_ode.training.optimizer import AdamW
from diffusion_ode.training.state import initial_state
from diffusion_ode.training.step import ExponentialAverage, make_train_step

MODEL = Model(
    VariancePreserving(),
    LinearSchedule(),
    VelocityPrediction(),
    UNet(features=32, blocks=2, attention=True, fourier_exponents=(6,), precision=Bfloat16()),
    Pixels((4, 4, 1), 4),
)
LANES = 4
KEY = jax.eval_shape(jax.random.key, 0)
KEYS = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), LANES))
PARAMETERS = jax.eval_shape(MODEL.init, KEY)
IMAGES = jax.ShapeDtypeStruct((LANES, 4, 4, 1), jnp.float32)
LEVELS = jax.ShapeDtypeStruct((LANES, 4, 4, 1), jnp.int32)
PER_IMAGE = jax.ShapeDtypeStruct((LANES,), jnp.float32)


def train_step(objective):
    optimizer = AdamW(learning_rate=1e-3)
    step = make_train_step(
        MODEL, objective, optimizer, ExponentialAverage(), num_steps=4, accumulation=2
    )
    state = jax.eval_shape(lambda key: initial_state(MODEL, objective, optimizer, key), KEY)
    batch = {"image": jax.ShapeDtypeStruct((LANES, 4, 4, 1), jnp.uint8), "flag": PER_IMAGE}
    return jax.jit(step, donate_argnums=0), (state, batch)


def device_loop():
    """The solver's while_loop with lanes under way, as likelihoods and samples run it."""
    ode = OdeLikelihood()
    flow = ProbabilityFlow(MODEL, ode.variable, ode.divergence)
    integrator = integrator_of(ode.solver, flow, ode.controller)
    probes = jax.eval_shape(
        lambda keys: draw_probes(ode.divergence, keys, (4, 4, 1)),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), LANES)),
    )
    span = flow.span

    def solve(parameters, z, ell, probe):
        start, end = (jnp.full(LANES, at) for at in span)
        state = integrator.start(z, ell, probe, start, end, jnp.ones(LANES, bool))
        return drivers._advance_until(integrator, state, parameters, jnp.int32(1))

    return jax.jit(solve), (PARAMETERS, IMAGES, PER_IMAGE, probes)


PROGRAMS = {
    "first-order step": lambda: train_step(FlowMatching()),
    "second-order step": lambda: train_step(SecondOrderFlowMatching()),
    "solver": device_loop,
    "dequantised starts": lambda: (
        functools.partial(likelihood._starts, OdeLikelihood(), MODEL, 2),
        (LEVELS, (KEY, KEY), jax.ShapeDtypeStruct((LANES,), jnp.uint32)),
    ),
    "bound": lambda: (
        functools.partial(VariationalBound(draws=2).terms, MODEL),
        (PARAMETERS, LEVELS, KEYS),
    ),
    "ancestral sampler": lambda: (
        functools.partial(ancestral_sampling._all_steps, MODEL, 4),
        (PARAMETERS, IMAGES, KEYS),
    ),
    "a sample's noise": lambda: (
        functools.partial(sampling._noise, MODEL),
        (KEY, jax.ShapeDtypeStruct((), jnp.int32)),
    ),
    "codec": lambda: (
        functools.partial(chain._noise, MODEL),
        (PARAMETERS, IMAGES, PER_IMAGE),
    ),
    "codec's losses": lambda: (
        functools.partial(losses._loss, MODEL),
        (PARAMETERS, LEVELS, jax.ShapeDtypeStruct((), jnp.float32), KEY),
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_tasks_program_is_lowered_for_gpus_and_tpus(program):
    with compiling_for("gpu"):  # on which, as on TPUs, loops are the device's own
        function, arguments = PROGRAMS[program]()
        lowered = export.export(jax.jit(function), platforms=["cuda", "tpu"])(*arguments)
    assert lowered.platforms == ("cuda", "tpu")
    if program in {"solver", "bound", "ancestral sampler"}:
        assert "stablehlo.while" in lowered.mlir_module()


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize("program", PROGRAMS)
def test_each_tasks_program_is_compiled_for_a_tpu(program):
    chip = jax.sharding.SingleDeviceSharding(slice_devices("v5e:2x2")[0])
    with compiling_for("tpu"):
        function, arguments = PROGRAMS[program]()
        compiled = jax.jit(function, in_shardings=chip).lower(*arguments).compile()
    assert compiled.memory_analysis().generated_code_size_in_bytes > 0
