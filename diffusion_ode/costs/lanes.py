"""Whether there is memory for so many images, which is told before hours of training."""

import functools
import math
import os

import jax
import jax.numpy as jnp

from diffusion_ode.costs.devices import of_kind
from diffusion_ode.diffusion.model import Model, abstract_parameters
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.quantities import data_size

_ARRAYS = 3  # z, its rate and the network's output: without the network's inside, so far too few
_LEVEL = 4  # bytes of a level or of a float


def check_lanes(name: str, model: Model, lanes: int) -> None:
    """Refuses so many images at once if their own arrays alone do not fit.

    Args:
      name: of the field that says how many.
      model: that is solved.
      lanes: over all devices.

    Raises:
      UserError: with the estimate; or the network's output has another shape than the images.
    """
    here = math.ceil(lanes / jax.device_count()) * model.pixels.dimensions * _ARRAYS
    parameters = sum(leaf.size for leaf in jax.tree.leaves(abstract_parameters(model)))
    _check(name, lanes, _LEVEL * (here + parameters), _of_device(), "on each device, which")
    _check_output(model)


def check_divided(name: str, lanes: int) -> None:
    """Refuses lanes that the devices of this process, which share them, do not divide."""
    devices = jax.local_device_count()
    if lanes % devices:
        raise UserError(
            f"{name} = {lanes} is not a multiple of the {devices} devices: choose a multiple."
        )


def check_images(name: str, model: Model, count: int) -> None:
    """Refuses so many images if the machine has no memory for them together.

    Args:
      name: of the field that says how many.
      model: whose images they are.
      count: of images that are there at once, beside each other and in one array.
    """
    needed = 2 * count * model.pixels.dimensions * model.pixels.dtype.itemsize
    _check(name, count, needed, _of_machine(), "of the machine, which")


def check_draws_fit(name: str, model: Model, count: int, images: int) -> None:
    """Refuses so many draws of each image of a batch, of which each is a whole image.

    Args:
      name: of the field that says how many.
      model: whose images they are.
      count: of draws.
      images: in the batch.
    """
    needed = _LEVEL * _ARRAYS * count * images * model.pixels.dimensions
    _check(name, count, needed, _of_device(), "on each device, which")


def _check(name: str, value: int, needed: int, memory: int, where: str) -> None:
    if needed > memory:
        raise UserError(
            f"{name} = {value} takes at least {data_size(needed)} {where} has"
            f" {data_size(memory)}: give fewer."
        )


def _of_device() -> int:
    known = of_kind(jax.devices()[0].device_kind)
    return int(known.memory) if known else _of_machine()


def _of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.lru_cache(maxsize=1)  # several tasks ask
def _check_output(model: Model) -> None:
    z = jax.ShapeDtypeStruct((2, *model.pixels.shape), jnp.float32)
    each = jax.ShapeDtypeStruct((2,), jnp.float32)
    output = jax.eval_shape(model.predict, abstract_parameters(model), z, each, each)
    if output.shape != z.shape:
        raise UserError(
            f"model.network makes {list(output.shape)} of images {list(z.shape)}: its output must"
            " have the shape of its input."
        )
