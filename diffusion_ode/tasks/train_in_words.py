"""What a training says of itself, at its beginning and at its end."""

from typing import Any

import jax

from diffusion_ode.objectives.objective import Weighted
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.quantities import counted
from diffusion_ode.tasks.run import Run
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.validation import TEST, ValidationCurve, in_bits
from diffusion_ode.workdir.code import running_code


def introduce(console: Console, run: Run, program: TrainProgram, images: Any) -> None:
    """What is about to happen, where, on what and by which code."""
    devices = jax.devices()
    mesh = program.placement.mesh.shape
    manifest = images.manifest
    console.print(f"{run.name} in {run.workdir}")
    console.print(
        f"  devices     {len(devices)} × {devices[0].device_kind},"
        f" mesh data {mesh['data']} × fsdp {mesh['fsdp']}"
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(program.abstract_state.parameters))
    console.print(f"  parameters  {count:,}")
    console.print(
        f"  data        {manifest.name}, {counted(len(images.train), 'training image')}"
        f" {'×'.join(map(str, manifest.shape))}, fingerprint {images.fingerprint}"
    )
    for note in manifest.notes:
        console.print(f"              {note}")
    console.print(f"  code        {running_code()}")
    objective = program.objective
    why = None
    if isinstance(objective, Weighted) and not objective.weighting.is_bound:
        why = f"under {type(objective.weighting).__name__}"
    elif not getattr(objective, "is_bound", True):
        why = "with a higher order's term"
    if why is not None:
        console.print(
            f"  loss        {why}, so no bound: bpd is the likelihood's diffusion term of the same"
            " draws"
        )


def steps_in_words(before: int, taken: int, asked_for: int, batch_size: int) -> str:
    """How many steps a launch has taken, after those that were there before."""
    if not taken:
        there = f"{counted(before, 'step')} {'is' if before == 1 else 'are'} there"
        return f"nothing: {there}, and {asked_for:,} are asked for"
    words = f"{counted(taken, 'step')} of {counted(batch_size, 'image')}"
    if before:
        words += f", after {before:,} that were there"
    early = before + taken < asked_for
    return words + (f"; stopped early, before {asked_for:,}" if early else "")


def validated(curve: ValidationCurve) -> list[tuple[str, str]]:
    """The lowest point of the curve, and what may be made of it."""
    if curve.lowest is None:
        return []
    if curve.split == TEST:
        figure = f"{in_bits(curve.points[-1])} (bound) at the end"
        return [("test images, watched", f"{figure}; they choose nothing")]
    figure = f"{in_bits(curve.lowest)} (bound) at step {curve.lowest.step}"
    return [("lowest on validation", f"{figure}: --checkpoint=best")]
