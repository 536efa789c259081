"""`--describe`, its last part: what a training step takes, by formula or by a TPU's compiler."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from diffusion_ode.costs import target
from diffusion_ode.costs.devices import SHOWN, Device, find_device
from diffusion_ode.costs.estimate import (
    REACHED_BANDWIDTH,
    UTILISATION,
    Estimate,
    estimate,
    fits,
)
from diffusion_ode.costs.flops import StepFlops, train_step_flops
from diffusion_ode.costs.memory import StepBytes
from diffusion_ode.errors import UserError
from diffusion_ode.networks.network import StatesActivations
from diffusion_ode.networks.rematerialization import KeepInputs, KeepProducts
from diffusion_ode.reporting.progress import duration
from diffusion_ode.reporting.quantities import counted, data_size, hours, operations, short_time
from diffusion_ode.tasks.experiment import Experiment
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.program import TrainProgram
from launch.screen import SCREEN_WIDTH

_SMALL = 0.02  # of all bytes: collectives below it are the metrics' and the smallest arrays'
_MOST_ROWS = 8
_MOST_DOUBLINGS = 11
_DEVICE_WIDTH = 14


def costs(experiment: Experiment, device: str | None) -> Iterator[str]:
    """What one step takes, and a whole run on some devices: no compiling, no measuring.

    Args:
      experiment: built.
      device: `NAME` or `NAME:COUNT` of `--device`; None for a few of the table.

    Raises:
      UserError: there is no such device, or that many do not divide the mesh or the batch.
    """
    train = experiment.train
    chosen, count = _devices(device)
    if not isinstance(train, Train):
        return
    program = train.program(experiment, experiment.mesh.imagine(count))
    flops = train_step_flops(program)
    rows = [(entry, estimate(program, entry, flops)) for entry in chosen]
    yield from _step(program, flops, rows[0][1])
    yield ""
    names = [_named(entry, row) for entry, row in rows]
    width = max(map(len, names))
    yield f"  {'':{width}}{'a step':>9}  {'bound by':8}{'memory each':>22}  the run (× devices)"
    for name, (entry, row) in zip(names, rows, strict=True):
        yield f"  {name:{width}}{_row(entry, row, program.num_steps)}"
    yield from _remedies(experiment, program, [row for row in rows if not row[1].fits])
    assumed = (
        f"assumed: {100 * UTILISATION:.0f} % of the peak FLOP/s and"
        f" {100 * REACHED_BANDWIDTH:.0f} % of the peak bandwidth are reached, hosts of 8 GPUs,"
        " one TPU slice; --device=NAME:COUNT asks for others"
    )
    yield from _wrapped(assumed)


def _remedies(
    experiment: Experiment, program: TrainProgram, rows: list[tuple[Device, Estimate]]
) -> Iterator[str]:
    """For each device that has too little memory, what alone would make a step fit."""
    network: Any = program.model.network
    if not rows or not isinstance(program.model.network, StatesActivations):
        return  # of others the bytes are no formula, and take long to count
    batch, devices = program.batch_size, program.placement.mesh.size
    parts = {
        a: _changed(program, accumulation=a)
        for a in _doublings(program.accumulation)
        if batch % (a * devices) == 0
    }
    again = {
        name: _changed(program, model=replace(program.model, network=network.clone(remat=remat)))
        for name, remat in (("keep_products()", KeepProducts()), ("keep_inputs()", KeepInputs()))
        if hasattr(network, "remat")
    }
    more = {
        n: _changed(program, placement=experiment.mesh.imagine(n))
        for n in _doublings(devices)
        if experiment.mesh.data is None and batch % (n * program.accumulation) == 0
    }
    yield ""
    yield "  a step fits with one of --set train.accumulation=…,"
    yield "  --set 'model.network.remat=…', which computes again, and --device=NAME:COUNT"
    for device, row in rows:
        least = row.size.total / device.memory  # nothing shrinks by more than it is divided by
        found = [
            next((n for n in ways if n >= start * least and fits(ways[n], device)), "–")
            for ways, start in ((parts, program.accumulation), (more, devices))
        ]
        remat = next((name for name in again if fits(again[name], device)), "–")
        yield (
            f"  {device.name:{_DEVICE_WIDTH}} accumulation={found[0]:<5} remat={remat:16}"
            f" {device.name}:{found[1]}"
        )
    yield ""


def _changed(program: TrainProgram, **fields: Any) -> TrainProgram:
    """The program with other fields, on which its state's sizes on a device do not depend."""
    changed = replace(program, **fields)
    vars(changed)["abstract_state"] = program.abstract_state  # seconds, of deep networks
    return changed


def _doublings(start: int) -> list[int]:
    return [start << power for power in range(1, _MOST_DOUBLINGS)]


def compiled_for(experiment: Experiment, topology: str) -> Iterator[str]:
    """What a TPU's compiler says of the real step on a slice; minutes.

    Raises:
      UserError: there is no such slice, libtpu is missing, or the mesh or the batch does not fit.
    """
    train = experiment.train
    if not isinstance(train, Train):
        raise UserError("--target compiles the step of a training; this experiment has none.")
    devices = target.slice_devices(topology)
    program = train.program(experiment, experiment.mesh.build(devices))
    mesh = program.placement.mesh.shape
    yield (
        f"compiled for {topology}: {len(devices)} × {devices[0].device_kind},"
        f" mesh data {mesh['data']} × fsdp {mesh['fsdp']}"
    )
    flops = train_step_flops(program)
    if flops.forward is not None:
        yield f"  {operations(flops.total / len(devices))} on each chip by formula"
    yield "  compiling; this takes minutes, and no TPU …"
    step = target.compile_for_slice(program)
    yield f"  compiled in {duration(step.seconds)}"
    if step.too_large is not None:
        yield from _wrapped(f"does not fit: {step.too_large}")
        yield from _wrapped(_too_large(program))
        return
    yield from _compiled(step, program)


def _too_large(program: TrainProgram) -> str:
    if not hasattr(program.model.network, "remat"):
        return "try more chips, or --set train.accumulation=…"
    return (
        "try more chips, --set train.accumulation=…, or --set 'model.network.remat=keep_products()'"
        " and, with less memory still, keep_inputs()"
    )


def _compiled(step: target.TargetStep, program: TrainProgram) -> Iterator[str]:
    available = f" of {data_size(step.device.memory)}" if step.device else ""
    parts = (
        f"{step.fits}: {data_size(step.memory)}{available} on each:"
        f" state {data_size(step.state)} + images {data_size(step.batch)}"
        f" + gradients and activations {data_size(step.temporary)}"
        f" + program {data_size(step.code)}"
    )
    yield from _wrapped(parts)
    if step.peak:
        yield f"  in use at once: {data_size(step.peak)} by the compiler's count"
    if step.fits != "fits":
        yield from _wrapped(_too_large(program))
    yield f"  XLA counts {operations(step.flops)} on each, the body of every loop once"
    everything = sum(row.total_bytes for row in step.collectives)
    large = [row for row in step.collectives if row.total_bytes >= _SMALL * everything]
    yield "  sent between devices, each step" + ("" if step.collectives else ": nothing")
    for row in large[:_MOST_ROWS]:
        yield f"    {row.count} × {row.kind} of {data_size(row.bytes)} among {row.devices}"
    rest = [row for row in step.collectives if row not in large[:_MOST_ROWS]]
    if rest:
        number = sum(row.count for row in rest)
        yield f"    {number} smaller, {data_size(sum(row.total_bytes for row in rest))} in all"


def _step(program: TrainProgram, flops: StepFlops, row: Estimate) -> Iterator[str]:
    step = f"a step of {counted(program.batch_size, 'image')}"
    if flops.forward is None:
        yield f"{step}, by XLA's count"
        yield f"  {operations(flops.total)}, of every loop one turn"
    else:
        yield f"{step}, by formula"
        yield (
            f"  {operations(flops.total)}: {operations(flops.model)} in products"
            f" ({flops.forward:g} × forward), {operations(flops.elementwise)} elsewhere"
        )
    if flops.recomputed:
        yield f"    and {operations(flops.recomputed)} of products again"
    mesh = program.placement.mesh.shape
    yield (
        f"  on each device of {row.devices} (mesh data {mesh['data']} × fsdp {mesh['fsdp']}),"
        f" in {'bfloat16' if flops.bfloat16 else 'float32'}, at the worst moment:"
    )
    yield from _wrapped(_sum(row.size), indent="    ")
    if not isinstance(program.model.network, StatesActivations):
        yield from _wrapped(
            "activations are what JAX's derivative of the network keeps, of which a compiler makes"
            " some again: an upper bound"
        )


def _sum(size: StepBytes) -> str:
    """What is there at once, and that it adds up."""
    parts = {
        "parameters": size.parameters,
        "average": size.average,
        "moments": size.moments,
        "images": size.batch,
        "gathered parameters": size.gathered,
        "gradients": size.gradients,
        "activations": size.activations,
    }
    listed = (f"{name} {data_size(number)}" for name, number in parts.items() if number)
    return f"{' + '.join(listed)} = {data_size(size.total)}"


def _row(device: Device, row: Estimate, num_steps: int) -> str:
    memory = f"{data_size(row.size.total)} of {data_size(device.memory)}"
    if not row.fits:
        memory = f"needs {memory}"
    said = short_time(row.seconds * num_steps)
    if row.devices > 1:
        said += f" ({hours(row.device_seconds(num_steps))})"
    return f"{short_time(row.seconds):>9}  {row.bound:8}{memory:>22}  {said}"


def _named(device: Device, row: Estimate) -> str:
    return device.name if row.devices == 1 else f"{row.devices} {device.name}"


def _devices(asked: str | None) -> tuple[list[Device], int | None]:
    if asked is None:
        return [find_device(name) for name in SHOWN], None
    name, colon, count = asked.partition(":")
    if colon and not (count.isdecimal() and int(count)):
        raise UserError(
            f"--device={asked} needs a number of devices, at least 1, after the colon:"
            f" say {name}:8."
        )
    return [find_device(name)], int(count) if colon else None


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    # Numbers stay with their units.
    joined = re.sub(r"(?<=\d) (?=[kMGTP]?(?:B|FLOP)\b)", "\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(joined, SCREEN_WIDTH, initial_indent=indent, subsequent_indent=indent)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
