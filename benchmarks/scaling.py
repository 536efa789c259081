"""How the published experiments would run on many devices: writes docs/scaling.md.

    python -m benchmarks.scaling [--out=docs/scaling.md]

Nothing runs and nothing is compiled: every figure is a formula of `diffusion_ode.costs`. What a
TPU's compiler said of the same steps is in docs/targets, a file of `--describe --target` each, and
is quoted; so is docs/memory, each a command and what `benchmarks.memory` printed.
"""

import argparse
import dataclasses
import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from benchmarks.measuring import markdown_table
from benchmarks.scaling_text import MEMORY_PREFACE, PREFACE, TARGETS_PREFACE
from diffusion_ode.backend import compiling_for
from diffusion_ode.costs.devices import Device, find_device
from diffusion_ode.costs.estimate import REACHED_BANDWIDTH, UTILISATION, Estimate, estimate
from diffusion_ode.costs.flops import train_step_flops
from diffusion_ode.costs.memory import activations, train_step_bytes
from diffusion_ode.networks.network import Activations
from diffusion_ode.networks.precision import Bfloat16
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.reporting.progress import duration, rate
from diffusion_ode.reporting.quantities import data_size, hours, short_time
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Mesh
from experiments import registry
from experiments.config.building import build
from experiments.config.overrides import override

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
# What a TPU's compiler sets aside for the compiled targets, at most, over what the formula counts.
_TPU_AREAS = 1.5
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
TARGETS, MEMORY = Path("docs/targets"), Path("docs/memory")


@dataclass(frozen=True)
class Row:
    """An experiment on some devices.

    Attributes:
      batch: the global one; the published one if every device gets an image of it.
      published: batch.
      settings: with which it fits.
      unchanged: bytes on each device without them.
      crossing: devices, over several hosts, at which the network takes as long as the rest.
      num_steps: for as many images as published.
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
        """What stands in the way of more devices, or of these: the first that holds."""
        row = self.estimate
        if not row.fits:
            return f"memory: {data_size(row.size.total)}; raise train.accumulation"
        if self.batch > self.published:
            return f"the batch: {self.published:,} images for {row.devices:,} chips"
        if row.bound == "network":
            return "the network: it takes longest"
        if self.settings != FITTING[0][0]:
            return f"memory: {data_size(self.unchanged)} as published"
        if self.crossing < self.published:
            return f"the network, beyond {self.crossing:,.0f} devices"
        return f"the batch: beyond {self.published:,} devices"


def main() -> None:
    """Writes the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/scaling.md"))
    out = parser.parse_args().out
    out.write_text(
        "\n".join([*_preface(), *_experiments(), *_targets(), *_memory()]) + "\n", encoding="utf-8"
    )
    print(f"wrote {out}")


def _preface() -> Iterator[str]:
    yield PREFACE.format(
        utilisation=f"{100 * UTILISATION:.0f} %",
        bandwidth=f"{100 * REACHED_BANDWIDTH:.0f} %",
        peaks=_peaks(),
    )


def _peaks() -> str:
    header = ["", "float32", "memory", "its bandwidth", "rate in a host", "rate between hosts"]
    rows = []
    for name in dict.fromkeys(name for _, name, _ in PLACES):
        device = find_device(name)
        between = device.between_hosts or device.network
        rates = (device.bandwidth, device.network, between)
        said = [f"{data_size(number)}/s" for number in rates]
        rows.append([name, f"{device.float32 / 1e12:g} TFLOP/s", data_size(device.memory), *said])
    return markdown_table(header, rows)


def _experiments() -> Iterator[str]:
    for name in EXPERIMENTS:
        published = _published(name)
        rows = [_row(published, *place) for place in PLACES]
        yield from _section(name, published, rows)


def _section(name: str, program: TrainProgram, rows: list[Row]) -> Iterator[str]:
    flops = train_step_flops(program)
    assert flops.forward is not None  # the experiments' networks state theirs
    passes, count = round(flops.forward), _parameters(program)
    forward = flops.model / (program.batch_size * flops.forward)
    yield f"\n### {name}\n"
    yield (
        f"P = {count / 1e6:.4g} M parameters, B = {program.batch_size:,} images in"
        f" a = {program.accumulation} parts, {program.num_steps:,} steps; F = {forward / 1e9:.4g}"
        f" GFLOP, k = {passes}. Of one image:\n"
    )
    yield markdown_table(
        ["settings", "R", "A on GPUs", "A on TPUs", "U"], _per_image(program, rows)
    )
    checkpoint = rows[0].checkpoint
    yield (
        f"\nA checkpoint takes {data_size(checkpoint)} and stalls a step for"
        f" {short_time(checkpoint / HOST_COPY)}.\n"
    )
    header = ["", "B", "settings", "compute", "memory", "network", "step", "memory each"]
    yield markdown_table(header, [_cells(row) for row in rows])
    yield ""
    header = ["", "images/s", "stall", "steps", "whole run", "all devices", "breaks first"]
    yield markdown_table(header, [_whole_run(row) for row in rows])


def _cells(row: Row) -> list[str]:
    e = row.estimate
    return [
        row.place,
        f"{row.batch:,}",
        row.settings,
        *(short_time(t) for t in (e.compute, e.memory, e.network, e.seconds)),
        f"{data_size(e.size.total)} of {data_size(row.device.memory)}",
    ]


def _whole_run(row: Row) -> list[str]:
    seconds = row.estimate.seconds
    return [
        row.place,
        rate(row.batch / seconds),
        f"{row.checkpoint / HOST_COPY / seconds:.2g} steps",
        f"{row.num_steps:,}",
        duration(seconds * row.num_steps),
        hours(row.estimate.device_seconds(row.num_steps)),
        row.breaks_first,
    ]


def _per_image(program: TrainProgram, rows: list[Row]) -> list[list[str]]:
    """The values R, A and U of the settings that the tables below use."""
    used = {row.settings for row in rows}
    table = []
    for settings, fields in FITTING:
        if settings in used:
            network: Any = program.model.network
            network = network.clone(**fields)
            flops = train_step_flops(
                dataclasses.replace(
                    program, model=dataclasses.replace(program.model, network=network)
                )
            )
            again = flops.recomputed / program.batch_size
            gpu, tpu = (_activations(program, network, platform) for platform in ("gpu", "tpu"))
            kept = (gpu.total, tpu.total, gpu.everything)
            table.append([settings, f"{again / 1e9:.4g} GFLOP", *map(data_size, kept)])
    return table


def _activations(program: TrainProgram, network: Any, platform: str) -> Activations:
    """Of one image."""
    one = dataclasses.replace(
        program,
        model=dataclasses.replace(program.model, network=network),
        placement=Mesh().imagine(1),
        batch_size=1,
        accumulation=1,
    )
    with compiling_for(platform):
        return activations(one)


def _row(published: TrainProgram, place: str, name: str, devices: int) -> Row:
    device = find_device(name)
    batch = max(published.batch_size, devices)
    # An accumulation that leaves a device without an image is of no use there.
    accumulation = max(1, min(published.accumulation, batch // devices))
    tried = []
    for settings, fields in FITTING:
        program = _placed(published, devices, batch, accumulation, fields)
        estimated = estimate(program, device)
        tried.append((settings, estimated))
        areas = _TPU_AREAS if device.platform == "tpu" else 1.0
        if areas * estimated.size.total <= device.memory:
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
        num_steps=published.num_steps * published.batch_size // batch,
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
    for file in sorted(TARGETS.glob("*.txt")):
        text = file.read_text(encoding="utf-8")
        command, said = text.splitlines()[0], text[text.index("compiled for") :].rstrip()
        yield f"\n`{command}`\n"
        yield f"```\n{said}\n```"
        yield _beside(command, said)


def _memory() -> Iterator[str]:
    """What `benchmarks.memory` printed, each file after the command that made it."""
    files = sorted(MEMORY.glob("*.md"))
    if files:
        yield MEMORY_PREFACE
    for file in files:
        command, _, said = file.read_text(encoding="utf-8").partition("\n")
        yield f"\n`{command}`\n\n{said.strip()}"


def _beside(command: str, said: str) -> str:
    """The formula's bytes for the same settings on the same slice."""
    words = shlex.split(command)
    name = next(word for word in words if word.startswith("--exp=")).partition("=")[2]
    settings = [after for word, after in itertools.pairwise(words) if word == "--set"]
    experiment = build(override(registry.configuration_of(registry.find(name)), settings))
    devices = int(said.split(":", 2)[2].split("×")[0])
    with compiling_for("tpu"):
        size = train_step_bytes(experiment.train.program(experiment, Mesh().imagine(devices)))
    return (
        f"\nBy formula: {data_size(size.total)} on each, of which state {data_size(size.state)},"
        f" gradients and activations {data_size(size.temporary)}."
    )


if __name__ == "__main__":
    main()
