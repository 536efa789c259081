"""Computes every recorded figure again from the recorded noise, and says how far off it is."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from diffusion_ode import units
from diffusion_ode.diffusion.dequantization import (
    TruncatedNormalDequantization,
    UniformDequantization,
    VariationalDequantization,
)
from diffusion_ode.diffusion.integration_variable import LogSnrVariable, NaturalVariable
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import NoisePrediction, VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.uniforms import LowDiscrepancyUniforms
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.inference.decoding import NearestLevel
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.objective import Draws
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.lanes import Item, solve_lanes
from diffusion_ode.solvers.pi_controller import PIController
from tests.parity.form import check_form, missing
from tests.parity.published_arithmetic import RECORDED_PATHS, recorded_deviation, recorded_gamma
from tests.parity.recording import Arrays, MalformedRecording, Recording, shapes

SCHEDULE = LinearSchedule(-13.3, 5.0)
LEVELS = 256
SECOND_ORDER_WEIGHT = 0.1
RECORDED_TOLERANCE = 1e-5  # of SciPy's RK45, relative and absolute
FOURIER_EXPONENTS = {1: (), 5: (6, 7)}  # by the channels of conv_in over those of the image

# How likelihoods are solved: as tightly as they were for the recording.
SOLVED = (DormandPrince5(), PIController(*[RECORDED_TOLERANCE] * 3), NaturalVariable())
LANES = 10  # solves under way; the same for all cases, so that they share what is compiled

FLOAT32_BOUND = 2e-5
SECOND_ORDER_BOUND = 1e-4
BITS_BOUND = 2e-3
UNEQUAL_BOUND = 1e-3

PATHS = {"VP": VariancePreserving(), "SP": StraightPath()}
PARAMETERIZATIONS = {"velocity": VelocityPrediction(), "noise": NoisePrediction()}
DEQUANTIZATIONS = {
    "u": UniformDequantization(),
    "v": VariationalDequantization(),
    "tn": TruncatedNormalDequantization(),
}
QUIRKS = ReferenceQuirks.all()


@dataclass(frozen=True)
class Finding:
    """The worst error of a group.

    Attributes:
      group: of the recording.
      error: the worst one.
      bound: what it may be.
      measure: what the error is.
      where: the array it was found in.
      cases: how many cases of the recording were held against.
      missing: cases that one would expect beside those.
    """

    group: str
    error: float
    bound: float
    measure: str
    where: str
    cases: int
    missing: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.error <= self.bound  # false for NaN

    def __str__(self) -> str:
        verdict = "ok" if self.holds else "OVER"
        return (
            f"{self.group:<23} {self.error:.2e} of at most {self.bound:.0e}  {verdict:<4}"
            f"  {self.cases} case{'s' * (self.cases != 1)}, {self.measure}; worst: {self.where}"
            + (f"; without {', '.join(self.missing)}" if self.missing else "")
        )


@dataclass(frozen=True)
class Comparison:
    """One array beside the recorded one."""

    name: str
    error: float


def relative(name: str, found, recorded) -> Comparison:
    """The largest difference over the largest recorded value of that array."""
    found, recorded = np.asarray(found, np.float64), np.asarray(recorded, np.float64)
    if found.shape != recorded.shape:
        raise MalformedRecording(f"{name} has the shape {recorded.shape}, not {found.shape}")
    scale = np.abs(recorded).max()
    difference = np.abs(found - recorded).max()
    return Comparison(name, float(difference / scale) if scale > 0 else float(difference))


def replay(recording: Recording, checkpoint: Any = None) -> Iterator[Finding]:
    """One finding for each group it has; with the EMA parameters of a checkpoint, one more.

    Raises:
      MalformedRecording: for names, arrays or shapes that are not those of a recording.
    """
    check_form(recording)
    relative_to = "relative to the array's largest"
    groups = (
        ("network", FLOAT32_BOUND, relative_to, _network(recording)),
        ("objective", FLOAT32_BOUND, relative_to, _objective(recording, second_order=False)),
        (
            "objective, second order",
            SECOND_ORDER_BOUND,
            relative_to,
            _objective(recording, second_order=True),
        ),
        ("drift", FLOAT32_BOUND, relative_to, _drift(recording)),
        ("likelihood", BITS_BOUND, "bits per dimension", _likelihood(recording)),
        ("sample", UNEQUAL_BOUND, "share of unequal values", _sample(recording)),
    )
    for group, bound, measure, comparisons in groups:
        found = list(comparisons)
        if found:
            absent = missing(recording, group.split(",")[0])
            if "second" in group:
                absent = [name for name in absent if name.endswith("_second")]
            yield _worst(group, bound, measure, found, tuple(absent))
    if checkpoint is not None:
        comparisons = [_one_network(recording, "attention0", checkpoint)]
        yield _worst("network of checkpoint", FLOAT32_BOUND, relative_to, comparisons)


def _worst(
    group: str, bound: float, measure: str, comparisons, absent: tuple[str, ...] = ()
) -> Finding:
    found = list(comparisons)
    # NaN is the worst of all, and max() would miss it.
    worst = max(found, key=lambda one: np.inf if np.isnan(one.error) else one.error)
    cases = len({one.name.split("/")[1] for one in found})
    return Finding(group, worst.error, bound, measure, worst.name, cases, absent)


@dataclass(frozen=True)
class CompiledNetwork:
    """A network compiled by itself, so that what is around it is rounded operation by operation.

    Compiled together, αx + σε becomes a fused multiply-add, and z is another number in its last
    bit.
    """

    module: UNet

    def apply(self, variables, z, time, flag, sigma, *, deterministic=True, rngs=None):
        del deterministic, rngs
        return _apply(self.module, variables, z, time, flag, sigma)


@functools.partial(jax.jit, static_argnums=0)
def _apply(module, variables, z, time, flag, sigma):
    return module.apply(variables, z, time, flag, sigma)


def model_for(recording: Recording, parameters: Any, path, parameterization) -> Model:
    """A model whose network fits the parameters."""
    shape = recording.images.shape[1:]
    conv_in = parameters.get("conv_in")
    kernel = conv_in.get("kernel") if isinstance(conv_in, dict) else None
    if getattr(kernel, "ndim", 0) != 4:
        raise MalformedRecording("the parameters have no conv_in/kernel of four axes")
    exponents = FOURIER_EXPONENTS.get(kernel.shape[2] // shape[-1])
    if exponents is None:
        raise MalformedRecording(f"conv_in takes {kernel.shape[2]} channels of {shape[-1]}")
    network = UNet(
        features=kernel.shape[-1],
        blocks=sum(name.startswith("down.block_") for name in parameters),
        attention="down.attn_0" in parameters,
        dropout=0.0,
        fourier_exponents=exponents,
    )
    model = Model(path, SCHEDULE, parameterization, network, Pixels(tuple(shape), LEVELS))
    expected = _expected_shapes(model)
    if expected != shapes(parameters):
        differing = sorted(set(expected.items()) ^ set(shapes(parameters).items()))
        raise MalformedRecording(f"the parameters are not those of {network}: {differing[:2]}")
    return Model(path, SCHEDULE, parameterization, CompiledNetwork(network), model.pixels)


@functools.cache
def _expected_shapes(model: Model):
    return shapes(jax.eval_shape(model.init, jax.random.key(0)))


def _network(recording: Recording) -> Iterator[Comparison]:
    for name in recording.cases("network"):
        yield _one_network(recording, name, recording.parameters(name))


def _one_network(recording: Recording, name: str, parameters: Any) -> Comparison:
    case = recording.cases("network").get(name)
    if case is None:
        raise MalformedRecording(f"the recording has no case network/{name} for the checkpoint")
    model = model_for(recording, parameters, PATHS["VP"], VelocityPrediction())
    out = model.predict(parameters, case["z"], case["gamma"], jnp.zeros(len(case["z"])))
    return relative(f"network/{name}/out", out, case["out"])


def _objective(recording: Recording, second_order: bool) -> Iterator[Comparison]:
    parameters = recording.parameters("attention0")
    for name, case in recording.cases("objective").items():
        path, parameterization, sampler, order = name.split("_")
        model = model_for(
            recording, parameters, RECORDED_PATHS[path], PARAMETERIZATIONS[parameterization]
        )
        importance = sampler == "importance"
        if second_order and order != "second":
            continue
        terms = _loss(model, parameters, recording, case, path, importance, order == "second")
        prefix = f"objective/{name}"
        if second_order:
            found = SECOND_ORDER_WEIGHT * terms.parts["second_order"]
            yield relative(f"{prefix}/loss_diff2", found, case["loss_diff2"])
            continue
        diffusion = terms.bound if order == "second" else terms.loss
        yield relative(f"{prefix}/loss_diff", diffusion, case["loss_diff"])
        yield from _ends(prefix, model, recording, case)


def _loss(model, parameters, recording, case: Arrays, path, importance, second_order):
    gamma = recorded_gamma(path, importance, SCHEDULE.gamma_0, SCHEDULE.gamma_1, case["t"])
    gamma = jnp.asarray(gamma, jnp.float32)
    if importance:
        exact = PATHS[path]
        ends = (jnp.asarray(end, jnp.float32) for end in (SCHEDULE.gamma_0, SCHEDULE.gamma_1))
        first, last = (exact.signal_remaining(end) for end in ends)
        density = jnp.square(model.path.alpha(gamma)) / (first - last)
    else:
        density = jnp.full_like(gamma, 1.0 / (SCHEDULE.gamma_1 - SCHEDULE.gamma_0))
    probes = (jnp.asarray(case["probe"]),) if second_order else ()
    draws = Draws(gamma, density, jnp.asarray(case["eps"]), probes)
    objective = FlowMatching()
    if second_order:
        objective = QUIRKS.objective(SecondOrderFlowMatching(weight=SECOND_ORDER_WEIGHT))
    flag = jnp.zeros(len(gamma))
    return objective.loss(model, parameters, recording.images, flag, draws, None)


def _ends(prefix: str, model: Model, recording: Recording, case: Arrays) -> Iterator[Comparison]:
    ends = QUIRKS.bound(VariationalBound()).ends
    noise = jnp.asarray(case["eps_0"])
    levels = jnp.asarray(recording.images, jnp.int32)
    deviation = recorded_deviation(model, model.pixels.encode(levels), noise)
    reconstruction = -model.pixels.log_probability(levels, deviation, SCHEDULE.gamma_0)
    yield relative(f"{prefix}/loss_recon", reconstruction, case["loss_recon"])
    yield relative(f"{prefix}/loss_klz", ends.prior(model, recording.images), case["loss_klz"])
    t = LowDiscrepancyUniforms().place(jnp.asarray(case["t0"]), len(case["t"]))
    yield relative(f"{prefix}/t", t, case["t"])
    for name, gamma in (("var_0", SCHEDULE.gamma_0), ("var_1", SCHEDULE.gamma_1)):
        variance = jnp.square(model.path.sigma(jnp.asarray(gamma, jnp.float32)))
        yield relative(f"{prefix}/{name}", variance, case[name])


def _drift(recording: Recording) -> Iterator[Comparison]:
    parameters = recording.parameters("attention0")
    for name, case in recording.cases("drift").items():
        path, parameterization = name.split("_")
        model = model_for(recording, parameters, PATHS[path], PARAMETERIZATIONS[parameterization])
        flow = ProbabilityFlow(model, LogSnrVariable(), HutchinsonTrace())
        probe = jnp.asarray(case["probe"])[:, None]
        drift, trace = flow(parameters, jnp.asarray(case["gamma"]), jnp.asarray(case["z"]), probe)
        yield relative(f"drift/{name}/drift", drift, case["drift"])
        yield relative(f"drift/{name}/hutchinson", trace, case["hutchinson"])


def _likelihood(recording: Recording) -> Iterator[Comparison]:
    parameters = recording.parameters("likelihood")
    for name, case in recording.cases("likelihood").items():
        path, dequantization, count = name.split("_")
        model = model_for(recording, parameters, PATHS[path], VelocityPrediction())
        likelihood, draws = QUIRKS.likelihood(
            OdeLikelihood(DEQUANTIZATIONS[dequantization], *SOLVED, divergence=HutchinsonTrace()),
            int(count.removeprefix("K")),
        )
        if draws != len(case["noise"]):
            raise MalformedRecording(
                f"likelihood/{name} has {len(case['noise'])} draws, not {draws}"
            )
        log_weights = _log_weights(likelihood, model, parameters, recording, case)
        bits = [
            -units.bits_per_dimension(likelihood.combination(w), model.pixels.dimensions)
            for w in log_weights.T
        ]
        difference = np.abs(np.asarray(bits) - case["bpd"]).max()
        yield Comparison(f"likelihood/{name}/bpd", float(difference))


def _log_weights(
    likelihood: OdeLikelihood, model: Model, parameters: Any, recording: Recording, case: Arrays
) -> np.ndarray:
    """Of every draw and image: [draws, images], from the recorded noise and probe."""
    noise = case["noise"]
    draws, images = noise.shape[:2]
    levels = jnp.asarray(recording.images[:images], jnp.int32)
    starts = [likelihood.dequantization.start(model, levels, jnp.asarray(n)) for n in noise]
    flow = ProbabilityFlow(model, likelihood.variable, likelihood.divergence)
    first = flow.position(likelihood.dequantization.gamma(model))
    items = (
        Item(draw * images + image, np.asarray(starts[draw].z[image]), 0.0, case["probe"][[image]])
        for draw in range(draws)
        for image in range(images)
    )
    result = np.full(draws * images, np.nan)
    for solution in solve_lanes(
        flow,
        parameters,
        items,
        lanes=LANES,
        solver=likelihood.solver,
        controller=likelihood.controller,
        span=(first, flow.position(SCHEDULE.gamma_1)),
    ):
        draw, image = divmod(int(solution.index), images)
        prior = model.prior_log_density(jnp.asarray(solution.z)[None])[0]
        if solution.converged:
            weight = float(starts[draw].log_weight[image])
            result[solution.index] = float(prior) + float(solution.ell) + weight
    return result.reshape(draws, images)


def _sample(recording: Recording) -> Iterator[Comparison]:
    parameters = recording.parameters("likelihood")
    for name, case in recording.cases("sample").items():
        model = model_for(recording, parameters, PATHS[name], VelocityPrediction())
        z_0 = _solved_as_recorded(model, parameters, case["noise"])
        decoded = QUIRKS.decoder(NearestLevel())(model, z_0, jax.random.key(0))
        unequal = np.mean(np.asarray(decoded) != case["images"])
        yield Comparison(f"sample/{name}/images", float(unequal))


def _solved_as_recorded(model: Model, parameters: Any, noise) -> jax.Array:
    """z at γ0 by the recording's own solver: the nearest level leaves no room for another's error.

    A value within 1e-5 of a border between bins, as one in four hundred is, changes its level with
    the solver's tolerance.
    """
    flow = ProbabilityFlow(model, LogSnrVariable())
    drift = jax.jit(lambda gamma, z: flow(parameters, gamma, z, None)[0])

    def of_flat_state(gamma, state):
        z = jnp.asarray(state, jnp.float32).reshape(noise.shape)
        return np.asarray(drift(jnp.full(len(noise), gamma, jnp.float32), z), np.float64).ravel()

    sigma = model.path.sigma(jnp.asarray(SCHEDULE.gamma_1, jnp.float32))
    solution = solve_ivp(
        of_flat_state,
        (SCHEDULE.gamma_1, SCHEDULE.gamma_0),
        np.asarray(noise * sigma, np.float64).ravel(),
        method="RK45",
        rtol=RECORDED_TOLERANCE,
        atol=RECORDED_TOLERANCE,
    )
    return jnp.asarray(solution.y[:, -1], jnp.float32).reshape(noise.shape)
