"""Whether what is solved at once fits into memory, which is told before hours of training."""

import math
import os

import jax

from diffusion_ode.costs.devices import of_kind
from diffusion_ode.diffusion.model import Model
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.quantities import data_size

_ARRAYS = 3  # z, its rate and the network's output: without the network's inside, so far too few


def check_lanes(name: str, model: Model, lanes: int) -> None:
    """Refuses so many images at once if their own arrays alone do not fit.

    Args:
      name: of the field that says how many.
      model: that is solved.
      lanes: over all devices.

    Raises:
      UserError: with the estimate.
    """
    devices = jax.devices()
    known = of_kind(devices[0].device_kind)
    memory = known.memory if known else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    parameters = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
    here = math.ceil(lanes / len(devices)) * model.pixels.dimensions * _ARRAYS
    needed = 4 * (here + sum(leaf.size for leaf in parameters))
    if needed > memory:
        raise UserError(
            f"{name} = {lanes} takes at least {data_size(needed)} on each device, which has"
            f" {data_size(memory)}: give fewer."
        )
