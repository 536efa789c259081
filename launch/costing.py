"""`--describe`, its last part: what a training step takes, by formula or by a TPU's compiler."""

import textwrap
from collections.abc import Iterator
from typing import Any

from diffusion_ode.costs import target
from diffusion_ode.costs.devices import SHOWN, Device, find_device
from diffusion_ode.costs.estimate import REACHED_BANDWIDTH, UTILISATION, Estimate, estimate
from diffusion_ode.costs.flops import StepFlops, directions, train_step_flops
from diffusion_ode.errors import UserError
from diffusion_ode.reporting.progress import duration
from diffusion_ode.tasks.experiment import Experiment
from diffusion_ode.tasks.train import Train
from diffusion_ode.training.program import TrainProgram

_WIDTH = 80
_GIGABYTE = 1e9
_SMALL = 0.02  # of all bytes: collectives below it are the metrics' and the smallest arrays'
_MOST_ROWS = 8


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
    rows = [(entry, row) for entry in chosen if (row := estimate(program, entry)) is not None]
    if flops is None or not rows:
        yield "FLOPs, bytes and times: the formulas are the U-Net's, not this network's"
        return
    yield from _step(program, flops, rows[0][1])
    yield ""
    yield f"  {'':9}{'a step':>8}  {'bound by':8}{'memory each':>20}  the run, device-hours"
    for entry, row in rows:
        yield _row(entry, row, program.num_steps)
    assumed = (
        f"assumed: {100 * UTILISATION:.0f} % of the peak FLOP/s and"
        f" {100 * REACHED_BANDWIDTH:.0f} % of the peak bandwidth are reached, hosts of 8 GPUs"
        " (InfiniBand between them), one TPU slice;"
        " --device=NAME:COUNT asks for others"
    )
    yield from _wrapped(assumed)


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
    yield "  compiling; this takes minutes, and no TPU …"
    step = target.compile_for_slice(program)
    yield f"  compiled in {duration(step.seconds)}"
    available = f" of {_gigabytes(step.device.memory)} GB" if step.device else ""
    if step.too_large is not None:
        yield from _wrapped(f"does not fit: {step.too_large}")
        return
    fits = not step.device or step.memory <= step.device.memory
    yield (
        f"  {'fits' if fits else 'does not fit'}: {_gigabytes(step.memory)}{available} on each:"
        f" state {_gigabytes(step.state)}, images {_gigabytes(step.batch)},"
    )
    yield (
        f"    gradients and activations {_gigabytes(step.temporary)}, program"
        f" {_gigabytes(step.code)} GB"
    )
    flops = train_step_flops(program)
    if flops is not None:
        yield (
            f"  {flops.total / len(devices):.3g} FLOP on each by formula; XLA counts"
            f" {step.flops:.3g}, loops once"
        )
    everything = sum(row.total_bytes for row in step.collectives)
    large = [row for row in step.collectives if row.total_bytes >= _SMALL * everything]
    yield "  sent between devices, each step" + ("" if step.collectives else ": nothing")
    for row in large[:_MOST_ROWS]:
        yield f"    {row.count} × {row.kind} of {row.bytes / 1e6:,.2f} MB among {row.devices}"
    rest = [row for row in step.collectives if row not in large[:_MOST_ROWS]]
    if rest:
        total = sum(row.total_bytes for row in rest)
        number = sum(row.count for row in rest)
        yield f"    {number} smaller ones of {total / 1e6:,.2f} MB in all"


def _step(program: TrainProgram, flops: StepFlops, row: Estimate) -> Iterator[str]:
    network: Any = program.model.network
    passes = 3 * (1 + directions(program.model, program.objective))
    size = row.size
    yield f"a step of {program.batch_size} images, by formula"
    yield (
        f"  {_flop(flops.total)}: {_flop(flops.model)} in products ({passes:g} × forward),"
        f" {_flop(flops.elementwise)} elsewhere"
    )
    if flops.recomputed:
        yield f"    {_flop(flops.recomputed)} of products again ({type(network.remat).__name__})"
    mesh = program.placement.mesh.shape
    yield (
        f"  on each device of {row.devices} (mesh data {mesh['data']} × fsdp {mesh['fsdp']}),"
        f" in {type(network.precision).__name__}:"
    )
    yield (
        f"    {_gigabytes(size.parameters)} parameters, {_gigabytes(size.average)} average,"
        f" {_gigabytes(size.moments)} moments, {_gigabytes(size.gradients)} gradients,"
    )
    yield f"    {_gigabytes(size.activations)} activations, {_gigabytes(size.total)} GB at most"


def _row(device: Device, row: Estimate, num_steps: int) -> str:
    memory = f"{_gigabytes(row.size.total)} of {_gigabytes(device.memory)} GB"
    if not row.fits:
        memory = f"needs {memory}"
    hours = row.device_hours(num_steps)
    run = f"{duration(row.seconds * num_steps)}, {hours:,.0f}"
    name = device.name if row.devices == 1 else f"{row.devices} {device.name}"
    return f"  {name:9}{_time(row.seconds):>8}  {row.bound:8}{memory:>20}  {run}"


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


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _gigabytes(size: float) -> str:
    gigabytes = size / _GIGABYTE
    return f"{gigabytes:,.0f}" if gigabytes >= 100 else f"{gigabytes:.3g}"


def _flop(number: float) -> str:
    for size, unit in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.3g} MFLOP"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
