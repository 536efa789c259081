"""How state and batches lie on the devices."""

import math
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from diffusion_ode.checking import check_count
from diffusion_ode.errors import UserError

_SMALLEST_SHARDED = 2**14  # elements; below it a gather costs more than the memory it saves


@dataclass(frozen=True)
class Mesh:
    """Devices as a grid with the axes (data, fsdp).

    Batches are divided along both axes; parameters, their average and the moments along fsdp.

    Args:
      data: devices along the data axis; None takes all that fsdp leaves.
      fsdp: devices that share one copy of the state.
    """

    data: int | None = None
    fsdp: int = 1

    def __post_init__(self):
        for name, size in (("mesh.fsdp", self.fsdp), ("mesh.data", self.data)):
            if size is not None:
                check_count(name, size, "give a number of devices")

    def build(self) -> "Placement":
        """The mesh over the devices that there are."""
        devices = jax.device_count()
        data = self.data if self.data is not None else devices // self.fsdp
        if data * self.fsdp != devices:
            raise UserError(
                f"mesh.data × mesh.fsdp = {data} × {self.fsdp} is not the number of devices,"
                f" {devices}: set both to numbers whose product is {devices}."
            )
        shape = (data, self.fsdp)
        return Placement(jax.make_mesh(shape, ("data", "fsdp"), (AxisType.Auto,) * 2))


@dataclass(frozen=True)
class Placement:
    """Named shardings on one mesh."""

    mesh: jax.sharding.Mesh

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The first axis over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(("data", "fsdp")))

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
        if parts == 1 or math.prod(shape) < _SMALLEST_SHARDED or not divisible:
            return PartitionSpec()
        largest = max(divisible, key=lambda axis: shape[axis])
        return PartitionSpec(*(["fsdp" if axis == largest else None for axis in range(len(shape))]))

    def place_batch(self, batch: Any) -> Any:
        """This process's rows of a global batch (NumPy) → global arrays."""
        return jax.tree.map(
            lambda rows: jax.make_array_from_process_local_data(self.batch, rows), batch
        )

    def constrain_batch(self, per_image: Any) -> Any:
        """Inside jit: arrays whose first axis is the batch lie as batches do."""
        return jax.lax.with_sharding_constraint(per_image, self.batch)
