"""A pass goes over images once, finds something of each, and is gone on with where it stopped."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from diffusion_ode import units
from diffusion_ode.distributed import processes
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.evaluation.per_example import PerExampleTable
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.progress import Progress
from diffusion_ode.reporting.running_mean import RunningMean


class Pass(Protocol):
    """What is found of an image depends on the image and its index, not on the others."""

    columns: ClassVar[tuple[str, ...]]
    """The names of what is found."""

    @property
    def noun(self) -> str:
        """What is counted, for the screen."""
        ...

    def rows(
        self, loaded: LoadedModel, images: np.ndarray, indices: Sequence[int]
    ) -> Iterable[tuple]:
        """What is found of each of these images, (index, *columns), in whatever order.

        Args:
          loaded: is judged.
          images: levels [n, h, w, c] of all.
          indices: of those that this process takes.
        """
        ...

    def nats(self, found: Any) -> Any:
        """The code length of what was found, a row or columns; NaN where there is none."""
        ...


def fill(
    table: PerExampleTable, a_pass: Pass, loaded: LoadedModel, images: np.ndarray, console: Console
) -> int:
    """Together: finds what a table lacks; returns of how many images.

    Args:
      table: of these images; every row is in it as soon as it is found.
      a_pass: finds some of its columns.
      loaded: is judged.
      images: levels [n, h, w, c].
      console: shows how far it is, with the running mean and its error.
    """
    missing = table.missing(a_pass.columns, len(images))
    if not missing:
        return 0
    bits = lambda found: units.bits_per_dimension(  # noqa: E731
        a_pass.nats(found), loaded.model.pixels.dimensions
    )
    running = RunningMean(filter(math.isfinite, bits(table.columns_of(len(images)))))
    progress = Progress(console, a_pass.noun, len(images))
    done = len(images) - len(missing)
    for row in _gathered(a_pass, loaded, images, missing):
        table.append(row["index"], **{name: row[name] for name in a_pass.columns})
        if math.isfinite(length := bits(row)):
            running.add(length)
        done += 1
        progress.update(done, *running.in_words())
    progress.end()
    return len(missing)


def _gathered(
    a_pass: Pass, loaded: LoadedModel, images: np.ndarray, missing: Sequence[int]
) -> Iterator[Any]:
    """Together: the rows that all processes find, each of images of its own."""
    row = np.dtype([("index", np.int64), *((name, np.float64) for name in a_pass.columns)])
    return processes.gathered(a_pass.rows(loaded, images, processes.mine(missing)), row)
