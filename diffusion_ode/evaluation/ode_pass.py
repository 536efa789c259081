"""The pass that finds every image's likelihood by the ODE, and the parts of that figure's error."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from diffusion_ode import units
from diffusion_ode.distributed import processes
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.evaluation.passes import fill
from diffusion_ode.evaluation.per_example import Columns, PerExampleTable
from diffusion_ode.evaluation.uncertainty import Uncertainty, uncertainty
from diffusion_ode.inference.likelihood import ImageLikelihood, OdeLikelihood
from diffusion_ode.randomness import stream_key
from diffusion_ode.reporting.console import Console
from diffusion_ode.solvers.divergence import renews
from diffusion_ode.solvers.step_controller import judged_by_state

_TIGHTER = 0.1  # of the tolerance, to see the solver's error


@dataclass(frozen=True)
class OdePass:
    """The log-likelihood in nats, by network evaluations, and whether the solve converged.

    Args:
      ode: how it is found.
      num_importance: K, dequantised draws per image.
      seed: of noise and probes.
      noise, probes: names of their streams.
      noun: what is counted, for the screen.
    """

    ode: OdeLikelihood
    num_importance: int
    seed: int
    noise: str = "noise"
    probes: str = "probes"
    noun: str = "image"
    columns: ClassVar[tuple[str, ...]] = ImageLikelihood._fields[1:]

    def rows(self, loaded, images, indices):
        return self.ode.of_images(
            loaded.model,
            loaded.parameters,
            ((index, np.asarray(images[index])) for index in indices),
            stream_key(self.seed, self.noise),
            probe_key=stream_key(self.seed, self.probes),
            num_importance=self.num_importance,
            sharding=loaded.lanes_sharding(self.ode.lanes),
            expected=len(processes.mine(range(len(images)))),
        )

    def nats(self, found):
        return np.where(found["converged"] > 0.0, -found["log_likelihood"], np.nan)


def error_parts(
    ode_pass: OdePass, found: Columns, loaded: LoadedModel, images: np.ndarray, console: Console
) -> Uncertainty:
    """Together: the parts of the mean's standard error in bits per dimension, and the solver's.

    Args:
      ode_pass: that was made.
      found: by it, of all images.
      loaded: is judged.
      images: levels [n, h, w, c], a subset, which is solved again with one thing changed at a time.
      console: shows how far it is.
    """

    def in_bits(columns: Columns) -> dict[int, float]:
        bits = units.bits_per_dimension(ode_pass.nats(columns), loaded.model.pixels.dimensions)
        known = np.isfinite(bits)
        return dict(zip(columns["index"][known].tolist(), bits[known].tolist(), strict=True))

    def again(what: str, **changed) -> dict[int, float]:
        if not any(index < len(images) for index in values):
            return {}  # there is nothing that it could be compared with
        other = dataclasses.replace(ode_pass, noun=f"again with {what}, image", **changed)
        table = PerExampleTable(other.columns)
        fill(table, other, loaded, images, console)
        return in_bits(table.columns_of(len(images)))

    values, ode = in_bits(found), ode_pass.ode
    other_noise, other_probes = {"noise": "other noise"}, {"probes": "other probes"}
    # Probes that are renewed at other times are others: only held ones show the solver's error,
    # at the same steps.
    held, at_tolerance = ode, values
    if renews(ode.divergence):
        held = dataclasses.replace(
            ode, divergence=ode.divergence.held(), controller=judged_by_state(ode.controller)
        )
        at_tolerance = again("held probes", ode=held)
    tighter = held.controller.tightened(_TIGHTER, ode.solver.convergence_order)
    return uncertainty(
        values,
        redrawn=again("other noise and probes", **other_noise, **other_probes),
        redrawn_probes=None if ode.divergence.exact else again("other probes", **other_probes),
        tightened=again(
            "a tenth of the tolerance", ode=dataclasses.replace(held, controller=tighter)
        ),
        at_tolerance=at_tolerance,
    )
