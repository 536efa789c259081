"""Whether a model can be solved so many images at once, which is told before hours of training."""

import functools
import math
import os

import jax
import jax.numpy as jnp

from diffusion_ode.costs.devices import of_kind
from diffusion_ode.diffusion.model import Model
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.quantities import data_size
from diffusion_ode.typing import Parameters

_ARRAYS = 3  # z, its rate and the network's output: without the network's inside, so far too few


def check_lanes(name: str, model: Model, lanes: int) -> None:
    """Refuses so many images at once if their own arrays alone do not fit.

    The network is traced at their shape, so that what it raises is raised now.

    Args:
      name: of the field that says how many.
      model: that is solved.
      lanes: over all devices.

    Raises:
      UserError: with the estimate; or the network's output has another shape than the images.
    """
    devices = jax.devices()
    known = of_kind(devices[0].device_kind)
    memory = known.memory if known else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    parameters = _parameters(model)
    here = math.ceil(lanes / len(devices)) * model.pixels.dimensions * _ARRAYS
    needed = 4 * (here + sum(leaf.size for leaf in jax.tree.leaves(parameters)))
    if needed > memory:
        raise UserError(
            f"{name} = {lanes} takes at least {data_size(needed)} on each device, which has"
            f" {data_size(memory)}: give fewer."
        )
    z = jax.ShapeDtypeStruct((lanes, *model.pixels.shape), jnp.float32)
    each = jax.ShapeDtypeStruct((lanes,), jnp.float32)
    output = jax.eval_shape(model.predict, parameters, z, each, each)
    if output.shape != z.shape:
        raise UserError(
            f"model.network makes {list(output.shape)} of images {list(z.shape)}: its output must"
            " have the shape of its input."
        )


@functools.lru_cache(maxsize=1)  # several tasks ask, and a large network takes half a second
def _parameters(model: Model) -> Parameters:
    return jax.eval_shape(model.init, jax.random.key(0))
