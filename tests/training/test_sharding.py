"""Where state and batches lie, and which meshes are refused; see also test_divisions.py."""

import jax
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.training.sharding import Mesh, Placement


def test_state_is_shared_along_its_largest_divisible_dimension():
    mesh = jax.sharding.AbstractMesh((2, 4), ("data", "fsdp"))
    specs = {
        shape: Placement(mesh)._spec(shape)  # type: ignore[arg-type]
        for shape in [(3, 3, 128, 256), (3, 3, 128, 130), (128,), (30001, 3), ()]
    }
    assert tuple(specs[(3, 3, 128, 256)]) == (None, None, None, "fsdp")
    assert tuple(specs[(3, 3, 128, 130)]) == (None, None, "fsdp", None)
    assert tuple(specs[(128,)]) == ()  # small: whole on every device
    assert tuple(specs[(30001, 3)]) == ()  # nothing divides
    assert tuple(specs[()]) == ()


def test_mesh_that_does_not_fit_the_devices_is_refused_in_one_sentence():
    devices = jax.device_count()
    with pytest.raises(UserError, match=f"number of devices, {devices}"):
        Mesh(data=3, fsdp=devices).build()
    with pytest.raises(UserError, match=r"mesh.fsdp = 3 does not divide the 1 device there is"):
        Mesh(fsdp=3).imagine(1)
    with pytest.raises(UserError, match=r"fsdp = 0 is not an int in \[1, "):
        Mesh(fsdp=0)


def test_batch_that_devices_and_accumulation_do_not_divide_is_refused():
    with pytest.raises(UserError, match="choose a multiple"):
        Mesh().build().check_batch(10, accumulation=4)
