"""The error of a likelihood against network evaluations, for every solver and variable."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.likelihood_cases import Lanes, evaluations_of, problem, reference
from benchmarks.measuring import markdown_table
from diffusion_ode.diffusion.integration_variable import (
    ImportanceVariable,
    IntegrationVariable,
    LogSnrVariable,
    NaturalVariable,
)
from diffusion_ode.solvers.adams import Adams
from diffusion_ode.solvers.bogacki_shampine3 import BogackiShampine3
from diffusion_ode.solvers.dormand_prince5 import DormandPrince5
from diffusion_ode.solvers.dormand_prince8 import DormandPrince8
from diffusion_ode.solvers.dpm_solver_plus_plus import DpmSolverPlusPlus
from diffusion_ode.solvers.euler import Euler
from diffusion_ode.solvers.fixed_steps import FixedSteps
from diffusion_ode.solvers.heun import Heun
from diffusion_ode.solvers.pi_controller import PIController
from diffusion_ode.solvers.runge_kutta4 import RungeKutta4
from diffusion_ode.solvers.solver import Solver
from diffusion_ode.solvers.step_controller import StepController

PICTURE = Path(__file__).resolve().parents[1] / "docs/figures/likelihood_error_against_nfe.png"
_IMAGES = 16
_EVALUATIONS = (48, 96, 192)  # of fixed steps
_RMS = 0.004  # bits per dimension: what the table gives the evaluations for
_TICKS = (30, 50, 100, 200, 500)
_UNIT_TOLERANCES = (2e-2, 1e-2, 4e-3, 1e-3)  # of z in units of σ, for all whose steps adapt

VARIABLES: dict[str, IntegrationVariable] = {
    "γ": LogSnrVariable(),
    "natural time of the path": NaturalVariable(),
    "importance time": ImportanceVariable(),
}
SOLVERS: dict[Solver, str] = {
    Adams(): "tab:red",
    BogackiShampine3(): "tab:orange",
    DormandPrince5(): "tab:blue",
    DormandPrince8(): "tab:purple",
    Heun(): "tab:gray",
    RungeKutta4(): "tab:green",
    Euler(): "tab:brown",
    DpmSolverPlusPlus(): "tab:cyan",
}


def main(workdir: Path, images: int) -> None:
    """Measures what the workdir has no points of yet, prints a table and draws."""
    posed = problem(workdir, min(images, _IMAGES))
    truth = reference(posed, workdir)
    file = workdir / "benchmarks" / f"points-{len(truth)}.json"
    points: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for variable_name, variable in VARIABLES.items():
        for solver in SOLVERS:
            for controller in _controllers(solver):
                name = f"{variable_name} | {solver.name} | {_described(controller)}"
                if name not in points:
                    solved = Lanes(solver, controller, variable)(posed)
                    errors = solved.bits - truth
                    points[name] = [
                        float(solved.nfe.mean()),
                        float(errors.mean()),
                        float(np.sqrt(np.mean(errors**2))),
                    ]
                    file.write_text(json.dumps(points, indent=1))
                nfe, mean, rms = points[name]
                print(f"{name}: {nfe:.0f} evaluations, mean {mean:+.4f}, rms {rms:.4f}", flush=True)
    print(f"\nevaluations an image for an rms error of {_RMS} bits per dimension:\n")
    print(_table(points))
    _draw(points, len(truth))
    print(f"written: {PICTURE}")


def _controllers(solver: Solver) -> Sequence[StepController]:
    if not solver.estimates_errors or isinstance(solver, Heun):
        return [FixedSteps(nfe // evaluations_of(solver)) for nfe in _EVALUATIONS]
    controller = PIController(0.0, 0.0, 1e-2)
    if isinstance(solver, Adams):
        controller = dataclasses.replace(controller, factor_max=2.0)
    return [dataclasses.replace(controller, unit_tolerance=t) for t in _UNIT_TOLERANCES]


def _described(controller: StepController) -> str:
    if isinstance(controller, FixedSteps):
        return f"{controller.steps} steps"
    assert isinstance(controller, PIController)
    return f"{controller.unit_tolerance} σ"


def _table(points: dict[str, Any]) -> str:
    rows = [
        [
            solver.name,
            *(_evaluations_for(_RMS, _line(points, variable, solver)) for variable in VARIABLES),
        ]
        for solver in SOLVERS
    ]
    return markdown_table(["", *(f"along {variable}" for variable in VARIABLES)], rows)


def _evaluations_for(rms: float, line: list[tuple[float, float]]) -> str:
    """Where a line of (evaluations, rms) falls below `rms` for good, straight on logarithms."""
    above = [place for place, point in enumerate(line) if point[1] > rms]
    if not above:
        return f"≤ {line[0][0]:.0f}"
    if above[-1] == len(line) - 1:
        return f"> {line[-1][0]:.0f}"
    (few, high), (many, low) = np.log(line[above[-1] : above[-1] + 2])
    return f"{np.exp(few + (many - few) * (high - np.log(rms)) / (high - low)):.0f}"


def _line(points: dict[str, Any], variable: str, solver: Solver) -> list[tuple[float, float]]:
    """Pairs (evaluations, rms) at every setting, in ascending order."""
    prefix = f"{variable} | {solver.name} | "
    own = (point for name, point in points.items() if name.startswith(prefix))
    return sorted((nfe, rms) for nfe, _, rms in own)


def _draw(points: dict[str, Any], images: int) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(VARIABLES), figsize=(11, 3.8), sharex=True, sharey=True)
    for panel, variable in zip(panels, VARIABLES, strict=True):
        for solver, colour in SOLVERS.items():
            nfe, rms = zip(*_line(points, variable, solver), strict=True)
            panel.loglog(nfe, rms, "o-", ms=3.5, lw=1.2, color=colour, label=solver.name)
        panel.set_title(f"along {variable}", fontsize=10)
        panel.set_xlabel("network evaluations an image")
        panel.set_xticks(_TICKS, map(str, _TICKS))
        panel.minorticks_off()
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel(f"rms error of an image, bits/dim ({images} images)")
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
