"""How the published experiments would run on many devices: writes docs/scaling.md.

    python -m benchmarks.scaling [--out=docs/scaling.md]

Nothing runs and nothing is compiled: every figure is a formula of `diffusion_ode.costs`. What a
TPU's compiler said of the same steps is in docs/targets, a file of `--describe --target` each, and
is quoted.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax

from benchmarks.measuring import markdown_table
from diffusion_ode.backend import compiling_for
from diffusion_ode.costs.devices import Device, find_device
from diffusion_ode.costs.estimate import REACHED_BANDWIDTH, UTILISATION, Estimate, estimate
from diffusion_ode.costs.flops import forward_flops, train_step_flops
from diffusion_ode.costs.memory import train_step_bytes
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.reporting.progress import duration, rate
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh
from experiments import registry
from launch.building import build

EXPERIMENTS = (
    "cifar10_vp",
    "cifar10_vp_finetune",
    "cifar10_aug_vp",
    "imagenet32_old_vp",
    "imagenet32_old_vp_finetune",
    "imagenet32_new_vp",
    "imagenet32_new_vp_finetune",
)
PLACES = (
    ("8 A100", "a100", 8),
    ("8 H100", "h100", 8),
    ("v5e-16", "v5e", 16),
    ("v5p, 1 024 chips", "v5p", 1024),
)
# The settings tried in turn until a step fits, each with less memory and more to compute.
FITTING = (
    ("as published", {}),
    ("remat=KeepProducts()", {"remat": KeepProducts()}),
    ("remat=KeepInputs()", {"remat": KeepInputs()}),
    ("KeepInputs(), Bfloat16()", {"remat": KeepInputs(), "precision": Bfloat16()}),
)
# Assumed, for the stall of an asynchronous checkpoint: it lasts until the state has been copied
# from the devices' memory to the host's, over PCI Express 4 with 16 lanes.
HOST_COPY = 20e9  # bytes/s
STATE_ARRAYS = 4  # parameter, average, two moments
_SEVERAL_HOSTS = 2**20  # devices: more than any host has
TARGETS = Path("docs/targets")


@dataclass(frozen=True)
class Row:
    """An experiment on some devices.

    Attributes:
      batch: the global one; the published one if every device gets an image of it.
      published: batch.
      settings: with which it fits.
      unchanged: bytes on each device without them.
      crossing: devices, over several hosts, at which the network takes as long as the products.
    """

    place: str
    device: Device
    batch: int
    published: int
    settings: str
    unchanged: int
    estimate: Estimate
    num_steps: int
    checkpoint: float
    crossing: float

    @property
    def breaks_first(self) -> str:
        """What stands in the way of more devices, or of these."""
        row = self.estimate
        if not row.fits:
            return f"memory: {row.size.total / 1e9:.0f} GB; raise train.accumulation"
        if self.batch > self.published:
            return f"the batch: {self.published:,} images for {row.devices:,} chips"
        if row.bound == "network":
            return "the network: it takes longest"
        if self.unchanged > self.device.memory:
            return f"memory: {self.unchanged / 1e9:.0f} GB as published"
        if self.crossing < self.published:
            return f"the network, beyond {self.crossing:,.0f} devices"
        return f"the batch: beyond {self.published:,} devices"


def main() -> None:
    """Writes the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/scaling.md"))
    out = parser.parse_args().out
    out.write_text("\n".join([*_preface(), *_experiments(), *_targets()]) + "\n", encoding="utf-8")
    print(f"wrote {out}")


def _preface() -> Iterator[str]:
    yield PREFACE.format(
        utilisation=f"{100 * UTILISATION:.0f} %", bandwidth=f"{100 * REACHED_BANDWIDTH:.0f} %"
    )


def _experiments() -> Iterator[str]:
    for name in EXPERIMENTS:
        published = _published(name)
        rows = [_row(published, *place) for place in PLACES]
        yield from _section(name, published, rows)


def _section(name: str, program: TrainProgram, rows: list[Row]) -> Iterator[str]:
    model = program.model
    forward, flops = forward_flops(model.network, model.pixels.shape), train_step_flops(program)
    assert forward is not None and flops is not None
    count = _parameters(program)
    yield f"\n### {name}\n"
    passes = round(flops.model / (program.batch_size * forward))
    yield (
        f"P = {count / 1e6:.1f} M parameters, B = {program.batch_size:,} images,"
        f" {program.num_steps:,} steps; F = {forward / 1e9:.1f} GFLOP, k = {passes};"
        f" checkpoint 16 P = {16 * count / 1e6:,.0f} MB.\n"
    )
    header = ["", "B", "settings", "compute", "memory", "network", "step", "images/s"]
    header += ["GB each", "stall", "whole run", "breaks first"]
    yield markdown_table(header, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    e = row.estimate
    stall = row.checkpoint / HOST_COPY
    hours = e.device_hours(row.num_steps)
    return [
        row.place,
        f"{row.batch:,}",
        row.settings,
        *(_milliseconds(t) for t in (e.compute, e.memory, e.network, e.seconds)),
        rate(row.batch / e.seconds),
        f"{e.size.total / 1e9:.3g} of {row.device.memory / 1e9:.0f}",
        f"{_milliseconds(stall)}, {stall / e.seconds:.2g} steps",
        f"{duration(e.seconds * row.num_steps)}, {hours:,.0f} device-hours",
        row.breaks_first,
    ]


def _row(published: TrainProgram, place: str, name: str, devices: int) -> Row:
    device = find_device(name)
    batch = max(published.batch_size, devices)
    # An accumulation that leaves a device without an image is of no use there.
    accumulation = max(1, min(published.accumulation, batch // devices))
    tried = []
    for settings, fields in FITTING:
        program = _placed(published, devices, batch, accumulation, fields)
        estimated = estimate(program, device)
        assert estimated is not None
        tried.append((settings, estimated))
        if estimated.fits:
            break
    settings, chosen = tried[-1]
    return Row(
        place=place,
        device=device,
        batch=batch,
        published=published.batch_size,
        settings=settings,
        unchanged=tried[0][1].size.total,
        estimate=chosen,
        num_steps=published.num_steps,
        checkpoint=4.0 * STATE_ARRAYS * _parameters(published),
        crossing=_crossing(chosen, device),
    )


def _crossing(chosen: Estimate, device: Device) -> float:
    """Devices at which the network takes as long as the rest, at its rate over several hosts."""
    slower = device.network_among(chosen.devices) / device.network_among(_SEVERAL_HOSTS)
    crossing = chosen.devices * max(chosen.compute, chosen.memory) / (chosen.network * slower)
    return max(crossing, device.per_host or 0)


def _published(name: str) -> TrainProgram:
    experiment = build(registry.configuration_of(registry.find(name)))
    return experiment.train.program(experiment, experiment.mesh.imagine())


def _placed(
    published: TrainProgram, devices: int, batch: int, accumulation: int, network_fields: dict
) -> TrainProgram:
    """The program on other devices; its state's shapes are taken over, not traced again."""
    network = published.model.network.clone(**network_fields)  # pyright: ignore
    placement = Mesh().imagine(devices)
    program = dataclasses.replace(
        published,
        model=dataclasses.replace(published.model, network=network),
        placement=placement,
        batch_size=batch,
        accumulation=accumulation,
    )
    shapes = published.abstract_state
    vars(program)["abstract_state"] = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        placement.state(shapes),
    )
    return program


def _parameters(program: TrainProgram) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.parameters))


def _targets() -> Iterator[str]:
    yield TARGETS_PREFACE
    files = sorted(TARGETS.glob("*.txt"))
    if not files:
        yield "\nNone yet."
    for file in files:
        experiment, _, topology = file.stem.rpartition("_v")
        topology = "v" + topology.replace("-", ":")
        text = file.read_text(encoding="utf-8")
        said = text[text.index("compiled for") :].rstrip()
        yield f"\n`python launch/run.py --exp={experiment} --describe --target={topology}`\n"
        yield f"```\n{said}\n```"
        yield _beside(experiment, said)


def _beside(experiment: str, said: str) -> str:
    """The formula's bytes for the same slice."""
    devices = int(said.split(":", 2)[2].split("×")[0])
    published = _published(experiment)
    with compiling_for("tpu"):
        program = _placed(published, devices, published.batch_size, published.accumulation, {})
        size = train_step_bytes(program)
    assert size is not None
    return (
        f"\nBy formula: {size.total / 1e9:.3g} GB on each, of which state"
        f" {size.state / 1e9:.3g}, gradients and activations {size.temporary / 1e9:.3g}."
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


PREFACE = """\
# Scaling

How the published experiments would run on 8 GPUs, on a TPU slice of 16 chips and on 1 024 chips. No
such machine was at hand: **the times below are estimates**, formulas with assumed numbers.
`python -m benchmarks.scaling` writes this document; for other devices and settings,
`python launch/run.py --exp=NAME --describe --device=h100:8 --set mesh.fsdp=8`.

How far the formulas are tested: `tests/costs` compiles small networks (32 to 64 features, at most 3
blocks) on a CPU, where FLOPs agree with XLA's own analysis within 5 % and bytes within 10 %. Bytes
with `remat` are not tested there, since XLA's CPU backend keeps what is to be computed again; nor
are networks of the published size, GPUs, or any time. For `cifar10_vp` on a v5e:2x4 the TPU's
compiler found 18.5 GB on each chip where the formula says 10.7 (`docs/targets`): it pads arrays,
and the formula does not. So on TPUs `GB each` may be too small by nearly a half, and a row that is
said to fit may not.

## Formulas

| figure | formula |
|---|---|
| compute | k·B·F / (n · peak · {utilisation}), and what rematerialisation computes again |
| memory | (10 × activations + 36 bytes × parameters here) / (bandwidth · {bandwidth}) |
| network | 2 (n − 1)/n · 4 P / (network · {bandwidth}), with fsdp = 1: one sum of the gradients |
| network's rate | NVLink within a host of 8 GPUs, beyond it each GPU's adapter; TPUs: one slice |
| step | max(compute, memory) + network: gradients are sent when all of them are there |
| images/s | B / step: what the input has to deliver |
| GB each | 16 P + gradients 4 P + activations of B/n images, at the worst moment |
| checkpoint | 16 P: parameters, their average and two moments in float32 |
| stall | 16 P / 20 GB/s: until one host has copied the state; the rest is written meanwhile |

n devices, B images in a global batch, P parameters, F FLOPs of one evaluation of an image, k passes
(first order 3: forward, and backward by inputs and by weights; second order 6: the same along one
direction more). **Assumed**: {utilisation} of the peak FLOP/s and {bandwidth} of the peak
bandwidths are reached, and 20 GB/s from a device's memory to the host's. The factor 10 is XLA's
count of the bytes accessed on small networks over the bytes they keep, on its CPU backend, which
fuses less than others: the column `memory` is an upper bound. Peaks are the makers' figures
(`diffusion_ode/costs/devices.py`), float32 products at XLA's default precision: TF32 on GPUs, one
bfloat16 pass on TPUs.

The mesh is (data = n, fsdp = 1) everywhere: the state is at most a few GB, so dividing it saves
little memory beside the activations, and costs a gather of the parameters in every step. `settings`
are the first with which a step fits. Experiments on straight paths cost what their siblings cost.

## What breaks first

- **Memory, on few devices**: 32 blocks at full resolution keep much for the gradient. `remat` and
  `precision` trade it for time, each its own setting.
- **The batch, on many**: a device needs an image. Published batches of 128 end at 128 devices; more
  devices means another training (a larger batch, and a learning rate to go with it).
- **The network, in between**: a sum of the gradients takes as long on 1 024 chips as on 16, while
  the rest shrinks with n. GPUs send 9 to 12 times more slowly once there is a second host (50 GB/s
  instead of 450 for H100, 25 instead of 300 for A100): `--device=h100:32` shows it.
- **Input** does not: `python -m benchmarks.input_pipeline` shows what one host delivers, to be
  compared with the images/s below divided by the number of hosts.
- **Checkpoints** do not: a stall every 10 000 steps. It is shorter than a step on few devices, not
  on many: a state is copied by one host however many there are, while steps become shorter, so that
  on 1 024 chips it can be several steps (column `stall`, itself an estimate). Of 10 000 steps these
  are 0.1 % or less.

## The experiments
"""

TARGETS_PREFACE = """
## What the TPU's compiler says

The real training step, compiled for a slice by libtpu on a machine without a TPU: the compiler's
own analysis of its memory, and the collectives read off the compiled program. The times of
compiling are of two cores that many other jobs shared. On 8 chips of 16 GB neither experiment fits
as published: the tables above say with which `remat` they are estimated to."""


if __name__ == "__main__":
    main()
