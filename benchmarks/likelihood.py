"""Likelihoods by ODE beside the way they are usually computed, on a model trained by this program.

    python -m benchmarks.likelihood [WORKDIR] [--images=32] [--rounds=3] [--parts=speed,lanes,…]

WORKDIR is that of a training, by default runs/digits_vp. Prints markdown tables:

- speed: wall time, network evaluations and error of the default against SciPy's RK45 on the host
  (see `HostScipy`), run in turn; errors are to a solve at 1e-6 (--reference) with the same probes;
- lanes: images a second with lanes refilled one by one against lock-step batches;
- oracle: the exact trace against the closed form, for Gaussian data; and how the standard error
  of Hutchinson's estimate falls with the number of probes;
- exact: mean over a few images with the exact trace against the mean with one probe;
- probes: how far the figures of one image lie apart under several probes, which see the network's
  share of the trace only, and as they would if they saw a Gaussian base's too; and those of probes
  that are renewed, by default and at greater tolerances;
- figure: error against evaluations, every solver and variable; docs/figures/ has the picture;
- check: what the references themselves err by, against 1e-8 in float64 (minutes for 4 images).
"""

import argparse
import dataclasses
import functools
import heapq
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import likelihood_figure
from benchmarks.likelihood_cases import (
    REFERENCE,
    HostScipy,
    Lanes,
    Problem,
    Solved,
    problem,
    reference,
    reference_error,
)
from benchmarks.measuring import machine, markdown_table, medians, some_of
from diffusion_ode import units
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.variance_preserving import VariancePreserving
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.probability_flow import ProbabilityFlow
from diffusion_ode.solvers.divergence import Divergence, draw_probes
from diffusion_ode.solvers.exact_trace import ExactTrace
from diffusion_ode.solvers.hutchinson_trace import HutchinsonTrace
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.solve import solve
from tests.gaussian_oracle import draw_data, exact_model, gaussian, in_float32, noised_variance

_ALLOWED = 0.002  # bits per dimension, of the mean
_LOOSER = (1e-4, 3e-4, 1e-3)  # the baseline's, at which its error is ours or worse
_FEW = 8  # images that the exact trace is taken for
_PROBES = (1, 2, 4, 8, 16)
_REPEATS = 256  # draws of the probes
_PARTS = ("speed", "lanes", "oracle", "exact", "probes", "figure", "check")


def main() -> None:
    """Measures and prints."""
    flags = _flags()
    if not (flags.workdir / "checkpoints").is_dir():
        print(
            f"{flags.workdir} holds no training, so nothing is measured on it: train one there"
            f" first, e.g. python launch/run.py --exp={flags.workdir.name}."
        )
        return
    print(f"{flags.workdir}: {machine()}\n")
    for part in flags.parts:
        {
            "speed": lambda: _speed(flags.workdir, flags.images, flags.rounds, flags.reference),
            "lanes": lambda: _lanes(flags.workdir, flags.images, flags.rounds),
            "oracle": _oracle,
            "exact": lambda: _exact(flags.workdir),
            "probes": lambda: _probes(flags.workdir),
            "figure": lambda: likelihood_figure.main(flags.workdir, flags.images),
            "check": lambda: _check(flags.workdir),
        }[part]()
        print()


def _speed(workdir: Path, images: int, rounds: int, tolerance: float) -> None:
    posed = problem(workdir, images)
    truth = reference(posed, workdir, tolerance)
    default = Lanes.by_default()
    runs = {
        "SciPy RK45 on the host, one state, 1e-5": HostScipy(posed.model, posed.parameters),
        **{
            f"the same, {tolerance:.0e}": HostScipy(posed.model, posed.parameters, tolerance)
            for tolerance in _LOOSER
        },
        "lanes, default": default,
        "lanes, a quarter of its tolerance": dataclasses.replace(
            default, controller=default.controller.tightened(0.25, default.solver.convergence_order)
        ),
    }
    solved: dict[str, Solved] = {}
    seconds = medians(
        {name: functools.partial(_kept, solved, name, run, posed) for name, run in runs.items()},
        rounds,
    )
    baseline = next(iter(runs))
    rows = []
    for name in runs:
        errors = solved[name].bits - truth
        rows.append(
            [
                name,
                f"{seconds[name]:.1f}",
                f"{seconds[name] / seconds[baseline]:.2f}",
                f"{solved[name].nfe.mean():.0f}",
                f"{solved[name].nfe.mean() / solved[baseline].nfe.mean():.2f}",
                f"{errors.mean():+.4f} ± {_standard_error(errors):.4f}",
                f"{np.sqrt(np.mean(errors**2)):.4f}",
            ]
        )
    header = ["", "seconds", "ratio", "evaluations", "ratio", "error of the mean", "rms per image"]
    print(f"{images} images; errors in bits per dimension, {_ALLOWED} are allowed")
    print(f"(mean {truth.mean():.4f} ± {_standard_error(truth):.4f} over the images)\n")
    print(markdown_table(header, rows))


def _kept(solved: dict[str, Solved], name: str, run, posed: Problem) -> None:
    solved[name] = run(posed)


def _lanes(workdir: Path, images: int, rounds: int) -> None:
    """Where evaluations vary little, and where they do: one image in four is not of the kind."""
    lanes = 16

    def others(levels: np.ndarray) -> np.ndarray:
        draw = np.random.default_rng(0)
        top, few = levels.max(), len(levels) // 6
        return np.concatenate(
            [top - levels[:few], draw.integers(0, top + 1, (few, *levels.shape[1:]))]
        )

    rows = []
    for name, posed in (
        ("test images", problem(workdir, 4 * images)),
        (
            "one in eight inverted, one in eight noise",
            _shuffled(problem(workdir, 3 * images, others)),
        ),
    ):
        solved: dict[str, Solved] = {}
        runs = {
            mode: functools.partial(
                _kept, solved, mode, Lanes.by_default(lanes=lanes, refill=refill), posed
            )
            for mode, refill in (("refilled", True), ("lock-step", False))
        }
        seconds = medians(runs, rounds)
        nfe = solved["refilled"].nfe
        rows.append(
            [
                name,
                f"{nfe.mean():.0f}, {nfe.min():.0f} to {nfe.max():.0f}",
                *(f"{len(posed.z) / seconds[mode]:.2f}" for mode in runs),
                f"{seconds['lock-step'] / seconds['refilled']:.2f}",
                f"{_batches(nfe, lanes, refill=False) / _batches(nfe, lanes, refill=True):.2f}",
            ]
        )
    print(f"{lanes} lanes, images a second\n")
    header = ["", "evaluations", "refilled", "lock-step batches", "ratio", "ratio of batches"]
    print(markdown_table(header, rows))
    print("\nThe last column counts calls of the network on all lanes, whatever else runs here.")


def _batches(nfe: np.ndarray, lanes: int, *, refill: bool) -> float:
    """Calls of the network on all lanes that the solves need."""
    if not refill:
        return sum(nfe[first : first + lanes].max() for first in range(0, len(nfe), lanes))
    ends = [0.0] * lanes
    for count in nfe:
        heapq.heapreplace(ends, ends[0] + count)
    return max(ends)


def _shuffled(posed: Problem) -> Problem:
    order = np.random.default_rng(1).permutation(len(posed.z))
    arrays = (array[order] for array in (posed.z, posed.log_weight, posed.probe))
    return Problem(posed.model, posed.parameters, *arrays)


def _oracle() -> None:
    dimensions, path = 16, VariancePreserving()
    data = gaussian(dimensions)
    model = exact_model(path, VelocityPrediction(), (4, 4, 1))
    z = draw_data(data, 64)
    rows = []
    default, order = OdeLikelihood().controller, OdeLikelihood().solver.convergence_order
    for name, controller in (
        ("default", default),
        ("a tenth of them", default.tightened(0.1, order)),
        ("a hundredth", default.tightened(0.01, order)),
        ("rtol = atol = 1e-6", PIController(1e-6, 1e-6, 1e-6)),
    ):
        found = _gaussian_log_density(model, data, z, ExactTrace(), controller)
        signed = units.bits_per_dimension(_closed_form(model, data, z) - found, dimensions)
        error = np.abs(signed)
        rows.append([name, f"{error.max():.1e}", f"{np.mean(signed):+.1e}"])
    print(f"Gaussian data in {dimensions} dimensions, exact trace, 64 images\n")
    print(markdown_table(["tolerances", "largest error, bits per dimension", "of the mean"], rows))

    rows = []
    for probes in _PROBES:
        found = _gaussian_log_density(
            model,
            data,
            np.repeat(z[:1], _REPEATS, axis=0),
            HutchinsonTrace(probes),
            OdeLikelihood().controller,
        )
        spread = np.std(units.bits_per_dimension(found, dimensions))
        rows.append([probes, f"{spread:.4f}", f"{spread * np.sqrt(probes):.4f}"])
    print(f"\nHutchinson's estimate, {_REPEATS} draws\n")
    print(markdown_table(["probes", "standard deviation", "× √probes"], rows))


def _gaussian_log_density(model, data, z, divergence, controller) -> np.ndarray:
    ode = OdeLikelihood()
    flow = ProbabilityFlow(model, ode.variable, divergence)
    shape = model.pixels.shape
    keys = jax.random.split(jax.random.key(0), len(z))
    solution = solve(
        flow,
        in_float32(data),
        jnp.asarray(z, jnp.float32).reshape(-1, *shape),
        context=draw_probes(divergence, keys, shape),
        solver=ode.solver,
        controller=controller,
        span=flow.span,
    )
    assert np.all(solution.converged)
    return np.asarray(solution.ell + model.prior_log_density(solution.z), np.float64)


def _closed_form(model, data, z) -> np.ndarray:
    """Log p0(z): in each eigendirection z − αμ grows as the noised data's deviation does."""
    ends = jnp.asarray([model.schedule.gamma_0, model.schedule.gamma_1])
    alpha, sigma = (np.asarray(f(ends)) for f in (model.path.alpha, model.path.sigma))
    before, after = (noised_variance(model.path, data, float(gamma)) for gamma in ends)
    centred = (z - alpha[0] * data["mean"]) @ data["rotation"] * np.sqrt(after / before)
    end = alpha[1] * data["mean"] + centred @ data["rotation"].T
    prior = -0.5 * np.sum(end**2, axis=1) / sigma[1] ** 2
    prior -= 0.5 * z.shape[1] * np.log(2 * np.pi * sigma[1] ** 2)
    return prior + 0.5 * np.sum(np.log(after / before))


def _exact(workdir: Path) -> None:
    posed = problem(workdir, _FEW)
    one, exact = (
        Lanes.by_default(lanes=_FEW, divergence=divergence)(posed)
        for divergence in (HutchinsonTrace(), ExactTrace())
    )
    difference = one.bits - exact.bits
    print(
        f"{_FEW} images: {exact.bits.mean():.4f} bits per dimension with the exact trace,"
        f" {one.bits.mean():.4f} with one probe; difference {difference.mean():+.4f} ±"
        f" {_standard_error(difference):.4f}, {np.std(difference, ddof=1):.4f} an image"
    )


def _probes(workdir: Path) -> None:
    posed, ode = problem(workdir, _FEW), OdeLikelihood()
    keys = jax.random.split(jax.random.key(1), _FEW * _FEW)

    def repeated(divergence: Divergence) -> Problem:
        z, log_weight = (np.repeat(each, _FEW, axis=0) for each in (posed.z, posed.log_weight))
        probes = np.asarray(draw_probes(divergence, keys, posed.model.pixels.shape))
        return Problem(posed.model, posed.parameters, z, log_weight, probes)

    def host(probes_base: bool) -> Solved:
        solver = HostScipy(posed.model, posed.parameters, 1e-4, probes_base)
        return solver(repeated(HutchinsonTrace()))

    def renewed(factor: float) -> Solved:
        controller = ode.controller.tightened(factor, 1)
        return Lanes(ode.solver, controller, ode.variable, divergence=ode.divergence)(
            repeated(ode.divergence)
        )

    solves = {
        "one for the network's share of the trace (RK45, 1e-4)": lambda: host(False),
        "one for all of it (RK45, 1e-4)": lambda: host(True),
        "renewed (default)": lambda: renewed(1.0),
        "renewed, twice the tolerance": lambda: renewed(2.0),
        "renewed, five times the tolerance": lambda: renewed(5.0),
    }
    rows = []
    for name, solve_all in solves.items():
        found = solve_all()
        spread = np.sqrt(np.mean(np.var(found.bits.reshape(_FEW, _FEW), axis=1, ddof=1)))
        rows.append((name, f"{found.nfe.mean():.0f}", f"{spread:.4f}"))
    title = f"{_FEW} probes of each of {_FEW} images"
    print(markdown_table((title, "evaluations", "they lie apart, bpd an image"), rows))


def _check(workdir: Path) -> None:
    error = reference_error(problem(workdir, _FEW), workdir)
    print(
        f"references at 1e-6 in float32 differ from 1e-8 in float64 by at most {error:.1e} an image"
    )


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdir", nargs="?", type=Path, default=Path("runs/digits_vp"))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference", type=float, default=REFERENCE, help="tolerance")
    parser.add_argument(
        "--parts", type=some_of(_PARTS), default=[*_PARTS], help=f"of {', '.join(_PARTS)}"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
