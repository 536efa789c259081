"""A prior that fits, and how soon the way to it may end: bits and evaluations for several γ1.

    python -m benchmarks.prior runs/photos_16_vp --data photos_16 [--images 32]

The model is as it was trained; only where its path ends is moved, with N(0, σ1² I) and with the
Gaussian of its base there. The same images, noise and probes throughout.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from benchmarks.measuring import machine, markdown_row
from data.prepare import prepare
from diffusion_ode import units
from diffusion_ode.diffusion.prior import FittedPrior, StandardPrior
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.inference.diffusion_model import DiffusionModel
from diffusion_ode.inference.likelihood import OdeLikelihood
from diffusion_ode.inference.variational_bound import VariationalBound


@dataclass(frozen=True)
class Shortened(LinearSchedule):
    """Ends elsewhere, and tells the network what it was told."""

    trained_gamma_1: float = 5.0

    def network_time(self, gamma):
        return LinearSchedule(self.gamma_0, self.trained_gamma_1).network_time(gamma)


def main() -> None:
    """A row for each prior and γ1, with the differences to the first, image by image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--data", default="photos_16")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--gamma_1", type=float, nargs="+", default=[5.0, 3.0, 1.0, -1.0])
    flags = parser.parse_args()
    loaded = DiffusionModel.load(flags.workdir)
    levels = np.asarray(prepare(flags.data).test)[: flags.images]
    trained = loaded.model.schedule.gamma_1
    print(f"{len(levels)} images, step {loaded.facts['step']}; {machine()}\n")
    header = ("prior", "γ1", "prior term", "bound", "to the first", "ODE", "to the first")
    print(markdown_row((*header, "evaluations")))
    print(markdown_row(["---"] * (len(header) + 1)))
    first: tuple[np.ndarray, np.ndarray] | None = None
    for prior in (StandardPrior(), FittedPrior()):
        for gamma_1 in flags.gamma_1:
            schedule = Shortened(loaded.model.schedule.gamma_0, gamma_1, trained)
            model = dataclasses.replace(loaded.model, schedule=schedule, prior=prior)
            model = model.bound(loaded.parameters)
            term, bound = _bound(model, loaded.parameters, levels)
            ode, evaluations = _ode(model, loaded.parameters, levels)
            first = first or (bound, ode)
            cells = [type(prior).__name__, f"{gamma_1:g}", f"{term.mean():.4f}"]
            for found, before in zip((bound, ode), first, strict=True):
                cells += [f"{np.mean(found):.4f}", _with_error(found - before)]
            print(markdown_row((*cells, f"{evaluations:.1f}")), flush=True)


def _bound(model, parameters, levels) -> tuple[np.ndarray, np.ndarray]:
    """The prior term and the whole bound, bits per dimension of each image."""
    keys = jax.random.split(jax.random.key(0), len(levels))
    terms = VariationalBound().terms(model, parameters, levels.astype(np.int32), keys)
    of = model.pixels.dimensions
    return tuple(units.bits_per_dimension(np.asarray(a), of) for a in (terms.prior, terms.total))


def _ode(model, parameters, levels) -> tuple[np.ndarray, float]:
    """Bits per dimension of each image, and evaluations an image."""
    images = enumerate(levels)
    found = list(OdeLikelihood().of_images(model, parameters, images, jax.random.key(1)))
    found.sort(key=lambda image: image.index)
    nats = -np.asarray([image.log_likelihood for image in found])
    bits = units.bits_per_dimension(nats, model.pixels.dimensions)
    return bits, float(np.mean([image.nfe for image in found]))


def _with_error(differences: np.ndarray) -> str:
    return f"{np.mean(differences):+.4f} ± {standard_error(differences):.4f}"


if __name__ == "__main__":
    main()
