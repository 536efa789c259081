"""What `benchmarks.likelihood` sets side by side: the same solves by several programs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from diffusion_ode import units
from diffusion_ode.configs import construction, documents
from diffusion_ode.diffusion.integration_variable import IntegrationVariable, LogSnrVariable
from diffusion_ode.diffusion.model import Model
from diffusion_ode.inference.diffusion_model import DiffusionModel
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.randomness import image_keys
from diffusion_ode.solvers.divergence import Divergence, draw_probes, renews
from diffusion_ode.solvers.dormand_prince8 import DormandPrince8
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.lanes import Item, solve_lanes
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.runge_kutta import RungeKutta
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import StepController

REFERENCE = 1e-6  # tolerance of the references, in float32
_CHECK = 1e-8  # and of the solves in float64 that they are checked against,
_CHECKED_IMAGES = 4  # which take minutes an image
_REFERENCE_LANES = 16  # images whose references are found, and kept, together
_MAX_STEPS = 100_000


@dataclass(frozen=True)
class Problem:
    """Dequantised images, each with the probe that all solves of it share.

    Attributes:
      z: at γ0, float32 [n, h, w, c].
      log_weight: [n], nats.
      probe: [n, 1, h, w, c], or the keys of those that are renewed.
    """

    model: Model
    parameters: Any
    z: np.ndarray
    log_weight: np.ndarray
    probe: np.ndarray

    def bits(self, z_end: np.ndarray, ell: np.ndarray) -> np.ndarray:
        """Bits per dimension [n] from the ends of the solves, in float64."""
        log_sigma = float(self.model.path.log_sigma(jnp.float32(self.model.schedule.gamma_1)))
        dimensions = self.model.pixels.dimensions
        square = np.sum(np.asarray(z_end, np.float64) ** 2, axis=(1, 2, 3))
        prior = -0.5 * square * np.exp(-2 * log_sigma)
        prior -= dimensions * (0.5 * np.log(2 * np.pi) + log_sigma)
        return units.bits_per_dimension(-(prior + ell + self.log_weight), dimensions)

    def part(self, some: slice) -> "Problem":
        """Of some images only."""
        arrays = (array[some] for array in (self.z, self.log_weight, self.probe))
        return Problem(self.model, self.parameters, *arrays)

    def first(self, n: int) -> "Problem":
        """Of the first n images only."""
        return self.part(slice(n))


@dataclass(frozen=True)
class Solved:
    """Bits per dimension, and evaluations of the network for each image; [n] each."""

    bits: np.ndarray
    nfe: np.ndarray


def problem(workdir: Path, count: int, also: Callable | None = None) -> Problem:
    """The first `count` test images of a training, dequantised as its evaluation would.

    Args:
      also: of the levels [n, h, w, c], gives other images to be added after them.
    """
    trained = DiffusionModel.load(workdir)
    arguments = documents.read(workdir / "config.json")["arguments"]
    data: Any = construction.build(arguments["data"])
    levels = np.asarray(data.load().test[:count]).astype(np.int32)
    if also is not None:
        levels = np.concatenate([levels, also(levels)])
    model, dequantization = trained.model, OdeLikelihood().dequantization
    keys, probe_keys = (
        image_keys(jax.random.key(seed), jnp.arange(len(levels))) for seed in (0, 1)
    )
    noise = jax.vmap(lambda key: dequantization.draw(model, key))(keys)
    start = dequantization.start(model, jnp.asarray(levels), noise)
    probes = draw_probes(HutchinsonTrace(), probe_keys, model.pixels.shape)
    arrays = (np.asarray(a) for a in (start.z, start.log_weight, probes))
    return Problem(model, trained.parameters, *arrays)


@dataclass(frozen=True)
class Lanes:
    """Ours: the lanes of this program."""

    solver: Solver
    controller: StepController
    variable: IntegrationVariable
    lanes: int = 16
    divergence: Divergence = field(default_factory=HutchinsonTrace)
    refill: bool = True

    @classmethod
    def by_default(cls, **changes: Any) -> "Lanes":
        """As an evaluation does it."""
        ode = OdeLikelihood()
        arguments = {"lanes": ode.lanes, **changes}
        return cls(ode.solver, ode.controller, ode.variable, **arguments)

    def __call__(self, problem: Problem) -> Solved:
        flow = ProbabilityFlow(problem.model, self.variable, self.divergence)
        z_end, ell = np.empty_like(problem.z), np.empty(len(problem.z))
        nfe = np.empty(len(problem.z))
        probe = problem.probe if renews(self.divergence) else problem.probe.astype(problem.z.dtype)
        if isinstance(self.divergence, ExactTrace):
            probe = probe.reshape(len(probe), -1)[:, :0]
        for solution in solve_lanes(
            flow,
            problem.parameters,
            (Item(i, z, 0.0, probe[i]) for i, z in enumerate(problem.z)),
            lanes=self.lanes,
            solver=self.solver,
            controller=self.controller,
            span=flow.span,
            refill=self.refill,
        ):
            assert solution.converged, f"image {solution.index} has not converged"
            z_end[solution.index], ell[solution.index] = solution.z, solution.ell
            nfe[solution.index] = solution.nfe
        return Solved(problem.bits(z_end, ell), nfe)


class HostScipy:
    """The way it is usually done, written here from its description.

    SciPy's RK45 on the host, by default with rtol = atol = 1e-5; the whole batch with its
    log-densities is one state with one step size; the trace by one reverse-mode product; γ is the
    time. Fair in that the network is compiled once, and in that a base's trace is known.

    Args:
      probes_base: let the probe see all there is, a Gaussian base's trace too.
    """

    def __init__(
        self, model: Model, parameters: Any, tolerance: float = 1e-5, probes_base: bool = False
    ):
        self.tolerance = tolerance
        flow = ProbabilityFlow(model, LogSnrVariable())
        self.span = flow.span

        @jax.jit
        def slopes(gamma, z, probe):
            together = jnp.full(len(z), gamma)
            value, product = jax.vjp(lambda z: flow(parameters, together, z, None)[0], z)
            trace = jnp.sum(product(probe)[0] * probe, axis=(1, 2, 3))
            return value, trace + unseen(together, z, probe)

        def unseen(gamma, z, probe):
            """A Gaussian base's trace, less what the probe saw of it: no other solve has that."""
            if model.base is None or probes_base:
                return 0.0
            known, moved = (model.base_output(parameters, at, gamma) for at in (z, z + probe))
            seen = jnp.sum((moved.value - known.value) * probe, axis=(1, 2, 3))
            pace = flow.variable.gamma_derivative(model.path, gamma)
            gain = 0.5 * model.path.sigma(gamma) * model.parameterization.gain(model.path, gamma)
            return pace * gain * (known.trace - seen)

        self.slopes = slopes

    def __call__(self, problem: Problem) -> Solved:
        shape, n = problem.z.shape, len(problem.z)
        probe = problem.probe[:, 0]

        def derivative(gamma, state):
            z = state[:-n].reshape(shape).astype(np.float32)
            slope, trace = jax.device_get(self.slopes(np.float32(gamma), z, probe))
            return np.concatenate([slope.ravel(), trace]).astype(np.float64)

        state = np.concatenate([problem.z.ravel(), np.zeros(n)])
        tolerance = self.tolerance
        result = solve_ivp(derivative, self.span, state, "RK45", rtol=tolerance, atol=tolerance)
        end = result.y[:, -1]
        bits = problem.bits(end[:-n].reshape(shape), end[-n:])
        return Solved(bits, np.full(n, float(result.nfev)))


def reference(problem: Problem, workdir: Path, tolerance: float = REFERENCE) -> np.ndarray:
    """Bits per dimension [n] by Dormand–Prince 8; kept in the workdir.

    It takes thousands of evaluations an image. `reference_error` says what it errs by.
    """
    return _kept_solves(problem, workdir, tolerance, min(_REFERENCE_LANES, len(problem.z)))


def reference_error(problem: Problem, workdir: Path) -> float:
    """The largest difference of `reference` from 1e-8 in float64, bits, over the first images."""
    some = problem.first(_CHECKED_IMAGES)
    with jax.enable_x64(True):
        exact = _kept_solves(_in_float64(some), workdir, _CHECK, _CHECKED_IMAGES)
    return float(np.max(np.abs(reference(some, workdir) - exact)))


def _kept_solves(problem: Problem, workdir: Path, tolerance: float, lanes: int) -> np.ndarray:
    file = workdir / "benchmarks" / f"reference-{tolerance:g}.npz"
    leaves = jax.tree.leaves(problem.parameters)
    identity = float(sum(np.sum(np.abs(np.asarray(leaf, np.float64))) for leaf in leaves))
    known = np.zeros(0)
    if file.exists():
        with np.load(file) as kept:
            if np.isclose(kept["identity"], identity, rtol=1e-6):
                known = kept["bits"]
    controller = PIController(*[tolerance] * 3, max_steps=_MAX_STEPS)
    solver = Lanes(DormandPrince8(), controller, LogSnrVariable(), lanes=lanes)
    file.parent.mkdir(exist_ok=True)
    while len(known) < len(problem.z):
        more = solver(problem.part(slice(len(known), len(known) + lanes)))
        known = np.concatenate([known, more.bits])
        np.savez(file, bits=known, identity=identity)  # what is done survives an interruption
    return known[: len(problem.z)]


def _in_float64(problem: Problem) -> Problem:
    def doubled(array: Any) -> jax.Array:
        return jnp.asarray(np.asarray(array), jnp.float64)

    return Problem(
        problem.model,
        jax.tree.map(doubled, problem.parameters),
        problem.z.astype(np.float64),
        problem.log_weight,
        problem.probe,
    )


def evaluations_of(solver: Solver) -> int:
    """Evaluations that a step takes."""
    if not isinstance(solver, RungeKutta):
        return 1
    return solver.tableau.stages - int(solver.tableau.fsal)
