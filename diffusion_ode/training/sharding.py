"""How state and batches lie on the devices."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.randomness import shifted
from diffusion_ode.ranges import Count

_SMALLEST_SHARDED = 2**14  # elements; below it a gather costs more than the memory it saves
_AXES, _AUTO = ("data", "fsdp"), (AxisType.Auto,) * 2
_BATCH = PartitionSpec(_AXES)  # the first axis over all devices


@dataclass(frozen=True)
class Mesh:
    """Devices as a grid with the axes (data, fsdp).

    Batches are divided along both axes; parameters, their average and the moments along fsdp.

    Args:
      data: devices along the data axis; None takes all that fsdp leaves.
      fsdp: devices that share one copy of the state.
    """

    data: Count | None = None
    fsdp: Count = 1

    __post_init__ = check_fields

    def build(self, over: Sequence[Any] | None = None) -> "Placement":
        """The mesh over some devices; all that there are by default.

        Raises:
          UserError: they are not as many as the axes say.
        """
        shape = self._shape(jax.device_count() if over is None else len(over))
        return Placement(jax.make_mesh(shape, _AXES, _AUTO, devices=over))

    def imagine(self, devices: int | None = None) -> "Placement":
        """The mesh over devices that are not there: shapes and shardings, nothing to run on.

        Args:
          devices: how many; None for as few as the axes say.

        Raises:
          UserError: they are not as many as the axes say.
        """
        shape = self._shape(devices if devices is not None else (self.data or 1) * self.fsdp)
        return Placement(jax.sharding.AbstractMesh(shape, _AXES, _AUTO))

    def _shape(self, devices: int) -> tuple[int, int]:
        if self.data is None and devices % self.fsdp:
            there = "1 device there is" if devices == 1 else f"{devices} devices there are"
            raise UserError(
                f"mesh.fsdp = {self.fsdp} does not divide the {there}: set it to a divisor."
            )
        data = self.data if self.data is not None else devices // self.fsdp
        if data * self.fsdp != devices:
            raise UserError(
                f"mesh.data × mesh.fsdp = {data} × {self.fsdp} is not the number of devices,"
                f" {devices}: set both to numbers whose product is {devices}."
            )
        return data, self.fsdp


@dataclass(frozen=True)
class Placement:
    """Where arrays lie on one mesh, and how a gradient is found there.

    Args:
      mesh: with the axes (data, fsdp).
      smallest_sharded: arrays with fewer elements are whole on every device.
    """

    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh
    smallest_sharded: int = _SMALLEST_SHARDED

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The first axis over all devices."""
        return NamedSharding(self.mesh, _BATCH)

    @property
    def batches(self) -> NamedSharding:
        """Several batches in a row: the second axis over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(None, *_BATCH))

    def check_batch(self, batch_size: int, accumulation: int) -> None:
        """Refuses a batch that the devices and the accumulation do not divide."""
        parts = self.mesh.size * accumulation
        if accumulation < 1 or batch_size < 1 or batch_size % parts:
            raise UserError(
                f"train.batch_size = {batch_size} is not a multiple of {parts}, the number of"
                f" devices ({self.mesh.size}) times train.accumulation ({accumulation}): choose a"
                " multiple."
            )

    def state(self, abstract: Any) -> Any:
        """A sharding for every array of a state: along fsdp by its largest divisible dimension."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, self._spec(leaf.shape)), abstract)

    def _spec(self, shape: tuple[int, ...]) -> PartitionSpec:
        parts = self.mesh.shape["fsdp"]
        divisible = [axis for axis, size in enumerate(shape) if size % parts == 0]
        if parts == 1 or math.prod(shape) < self.smallest_sharded or not divisible:
            return PartitionSpec()
        largest = max(divisible, key=lambda axis: shape[axis])
        return PartitionSpec(*(["fsdp" if axis == largest else None for axis in range(len(shape))]))

    def rows(self, batch_size: int) -> np.ndarray:
        """Which images of a global batch this process's devices hold, in ascending order.

        On a slice of TPUs a mesh follows the wires, so that a host's devices need not be neighbours
        in it.
        """
        held = self.batch.addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[rows] for rows in held]))

    def place_batch(self, batch: Any, sharding: NamedSharding | None = None) -> Any:
        """This process's `rows` of a global batch (NumPy) → global arrays."""
        sharding = sharding or self.batch
        return jax.tree.map(
            lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch
        )

    def divide(self, gradient: Callable[[Any, Any, Any], tuple[Any, Any]]) -> Callable:
        """The same function of a global batch, each device working on the images that it holds.

        A step sends what is written here and nothing else: before it the shares of the parameters
        are gathered along fsdp; after it gradients are scattered along fsdp and reduced along
        data, once, in however many parts the device has gone through its images.

        Args:
          gradient: (parameters, images, batch key) → (mean gradient over the images, terms per
            image).
        """
        if self.mesh.size == 1:
            return gradient

        def divided(parameters, batch, key):
            specs = jax.tree.map(lambda leaf: self._spec(leaf.shape), parameters)

            def on_one_device(shares, images, key):
                here = jax.lax.axis_index(self.mesh.axis_names) * len(jax.tree.leaves(images)[0])
                whole = jax.tree.map(_gathered, shares, specs)
                gradients, terms = gradient(whole, images, shifted(key, here))
                gradients = jax.tree.map(lambda g: g / self.mesh.size, gradients)
                return _summed(gradients, specs), terms

            return jax.shard_map(
                on_one_device,
                mesh=self.mesh,
                in_specs=(specs, _BATCH, PartitionSpec()),
                out_specs=(specs, _BATCH),
                check_vma=False,  # it would have every part's gradient reduced on its own
            )(parameters, batch, key)

        return divided


def _sharded_axis(spec: PartitionSpec) -> int | None:
    return tuple(spec).index("fsdp") if "fsdp" in spec else None


def _gathered(share, spec: PartitionSpec):
    axis = _sharded_axis(spec)
    return share if axis is None else jax.lax.all_gather(share, "fsdp", axis=axis, tiled=True)


def _summed(gradients: Any, specs: Any) -> Any:
    """Each device's share of the sum over all devices."""

    def scattered(gradient, spec):
        axis = _sharded_axis(spec)
        if axis is None:
            return gradient
        return jax.lax.psum_scatter(gradient, "fsdp", scatter_dimension=axis, tiled=True)

    def reduced(gradient, spec):
        return jax.lax.psum(gradient, ("data", "fsdp") if _sharded_axis(spec) is None else "data")

    return jax.tree.map(reduced, jax.tree.map(scattered, gradients, specs), specs)
