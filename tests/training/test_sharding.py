"""The same numbers on one device and on eight, for every division of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from diffusion_ode.errors import UserError
from diffusion_ode.training.sharding import Mesh, Placement

ROOT = Path(__file__).resolve().parents[2]
STEPS = 3


def losses_of_three_steps(data: int, fsdp: int) -> list[float]:
    """Run in a process of its own (see the end of this file), with as many devices as it likes."""
    import numpy as np

    from diffusion_ode.objectives.flow_matching import FlowMatching
    from diffusion_ode.process.model import Model
    from diffusion_ode.process.parameterization import VelocityPrediction
    from diffusion_ode.process.pixels import Pixels
    from diffusion_ode.process.schedule import LinearSchedule
    from diffusion_ode.process.straight_path import StraightPath
    from diffusion_ode.training.optimizer import AdamW, WarmedUp
    from diffusion_ode.training.program import TrainProgram
    from diffusion_ode.training.step import ExponentialAverage
    from tests.small_network import SmallNetwork

    program = TrainProgram(
        model=Model(
            StraightPath(),
            LinearSchedule(-7.88),
            VelocityPrediction(),
            SmallNetwork(features=64, dropout=0.1),  # wide enough that fsdp has something to share
            Pixels((4, 4, 1), 17),
        ),
        objective=FlowMatching(),
        optimizer=AdamW(WarmedUp(1e-2, warmup_steps=1)),
        average=ExponentialAverage(0.9),
        placement=Mesh(data, fsdp).build(),
        num_steps=STEPS,
        batch_size=16,
        accumulation=2,
        seed=0,
    )
    images = np.random.default_rng(0).integers(0, 17, (16, 4, 4, 1), dtype=np.uint8)
    state, step = program.fresh_state(), program.compile_step()
    losses = []
    for _ in range(STEPS):
        batch = program.place({"image": images, "flag": np.zeros(16, np.float32)})
        state, metrics = step(state, batch)
        losses.append(float(metrics["bpd"]))
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state.parameters)))
    return [*losses, float(norm)]


@pytest.fixture(scope="module")
def on_one_device():
    return losses_of_three_steps(1, 1)


def test_eight_devices_train_like_one_however_they_are_divided(on_one_device):
    script = "from tests.training.test_sharding import main; main()"
    flags = "--xla_force_host_platform_device_count=8"
    output = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert output.returncode == 0, output.stderr
    results = json.loads(output.stdout.splitlines()[-1])
    assert set(results) == {"8x1", "4x2", "1x8"}
    for division, losses in results.items():
        assert losses == pytest.approx(on_one_device, rel=1e-5), division


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
    with pytest.raises(UserError, match=r"fsdp = 0 is below 1"):
        Mesh(fsdp=0)


def test_batch_that_devices_and_accumulation_do_not_divide_is_refused():
    with pytest.raises(UserError, match="choose a multiple"):
        Mesh().build().check_batch(10, accumulation=4)


def main() -> None:
    results = {f"{d}x{f}": losses_of_three_steps(d, f) for d, f in ((8, 1), (4, 2), (1, 8))}
    print(json.dumps(results))
