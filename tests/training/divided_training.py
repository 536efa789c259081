"""The same small trainings on every division of eight virtual devices; see test_divisions.py.

Run as a program, as the number of devices is settled when a process begins:
`XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.training.divided_training`
prints what came of each as JSON; with `others`, of the first and the other divisions.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.parameterization import VelocityPrediction
from diffusion_ode.diffusion.pixels import Pixels
from diffusion_ode.diffusion.schedule import LinearSchedule
from diffusion_ode.diffusion.straight_path import StraightPath
from diffusion_ode.diffusion.time_sampling import ImportanceSampledTimes
from diffusion_ode.networks.unet import UNet
from diffusion_ode.objectives.flow_matching import FlowMatching
from diffusion_ode.objectives.second_order_flow_matching import SecondOrderFlowMatching
from diffusion_ode.randomness import batch_key
from diffusion_ode.training.collectives import collectives
from diffusion_ode.training.optimizer import AdamW, WarmedUp
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh, Placement
from diffusion_ode.training.step import ExponentialAverage
from tests.small_network import SmallNetwork

DIVISIONS = [(1, 1), (2, 2), (8, 1), (2, 4), (1, 8)]
OTHERS = [(2, 1), (1, 2), (4, 1), (1, 4), (4, 2)]  # if asked for by `others`
SOME_DIVISIONS = [(8, 1), (2, 4)]
STEPS, BATCH, SHAPE, LEVELS = 3, 16, (4, 4, 1), 17
SMALLEST_SHARDED = 64  # the kernels of the small network, but not its biases
IMAGES = np.random.default_rng(0).integers(0, LEVELS, (BATCH, *SHAPE), dtype=np.uint8)


@dataclass(frozen=True)
class RememberedTimes(ImportanceSampledTimes):
    """The same times; its state is the last batch's γ and integrand, image by image."""

    def init(self):
        return jnp.zeros(BATCH), jnp.zeros(BATCH)

    def update(self, state, schedule, gamma, integrand):
        return gamma, integrand


def program(placement: Placement, network: Any, accumulation: int = 1) -> TrainProgram:
    return TrainProgram(
        model=Model(
            StraightPath(),
            LinearSchedule(-7.88),
            VelocityPrediction(),
            network,
            Pixels(SHAPE, LEVELS),
        ),
        objective=FlowMatching(RememberedTimes()),
        optimizer=optax.chain(
            optax.clip_by_global_norm(0.1), AdamW(WarmedUp(1e-3, warmup_steps=1))
        ),
        average=ExponentialAverage(0.9),
        placement=placement,
        num_steps=STEPS,
        batch_size=BATCH,
        accumulation=accumulation,
        seed=0,
    )


def trained(training: TrainProgram, start: Any) -> dict[str, Any]:
    """Losses and state a few steps after a start that lies in host memory."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, training.abstract_state)
    state, step = jax.device_put(start, shardings), training.compile_step()
    losses = []
    for _ in range(STEPS):
        batch = training.place({"image": IMAGES, "flag": np.zeros(BATCH, np.float32)})
        state, metrics = step(state, batch)
        losses.append(float(metrics["bpd"]))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    return {"losses": losses, "state": listed(state), "bytes_held": held, **sent(training, step)}


def listed(state: Any) -> dict[str, list]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tolist() for path, leaf in leaves}


def sent(training: TrainProgram, step) -> dict[str, Any]:
    """What a compiled step sends, and the bytes of the parameters that it sends them for."""
    parameters = jax.tree.leaves(training.abstract_state.parameters)
    shared = [leaf for leaf in parameters if not leaf.sharding.is_fully_replicated]
    return {
        "collectives": [dataclasses.asdict(c) for c in collectives(step.executable.as_text())],
        "parameter_bytes": sum(4 * leaf.size for leaf in parameters),
        "shared_bytes": sum(4 * leaf.size for leaf in shared),
    }


def drawn(placement: Placement) -> dict[str, list]:
    """Everything random of one batch: times, noise, probes, and a dropout mask."""
    model = program(placement, SmallNetwork()).model
    objective = SecondOrderFlowMatching()  # which draws probes too

    def mask(parameters, images, key):
        ones = jnp.ones((*images.shape[:3], 2))
        dropout = nn.Dropout(0.5, deterministic=False)
        return parameters, dropout.apply({}, ones, rngs={"dropout": key})

    def draw(images):
        draws = objective.draw(model, images, jax.random.key(1), ())
        dropped = placement.divide(mask)({}, images, batch_key(jax.random.key(2)))[1]
        return {
            "times": draws.gamma,
            "noise": draws.noise,
            "probes": draws.probes,
            "dropout": dropped,
        }

    batch = placement.place_batch(IMAGES.astype(np.int32))
    return jax.tree.map(lambda a: np.asarray(a).tolist(), jax.jit(draw)(batch))


def main() -> None:
    def on(data: int, fsdp: int, smallest: int = SMALLEST_SHARDED) -> Placement:
        placement = Mesh(data, fsdp).build(jax.devices()[: data * fsdp])
        return dataclasses.replace(placement, smallest_sharded=smallest)

    def small(data: int, fsdp: int, accumulation: int = 1) -> TrainProgram:
        network = SmallNetwork(features=32, dropout=0.3)
        return program(on(data, fsdp), network, accumulation=accumulation)

    def unet(data: int, fsdp: int) -> dict[str, Any]:
        training = program(on(data, fsdp, 2**10), UNet(features=32, blocks=1))
        return sent(training, training.compile_step())

    named = lambda function, divisions: {f"{d}x{f}": function(d, f) for d, f in divisions}  # noqa: E731
    divisions = [DIVISIONS[0], *OTHERS] if sys.argv[1:] == ["others"] else DIVISIONS
    start = jax.tree.map(np.asarray, small(1, 1).fresh_state())
    results = {
        "start": {"1x1": listed(start), "2x4": listed(small(2, 4).fresh_state())},
        "trained": named(lambda d, f: trained(small(d, f), start), divisions),
        "in two parts": named(lambda d, f: trained(small(d, f, 2), start), SOME_DIVISIONS),
        "drawn": named(lambda d, f: drawn(on(d, f)), [(1, 1), *SOME_DIVISIONS]),
        "unet": named(unet, SOME_DIVISIONS),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
