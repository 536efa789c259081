"""The variational bound on held-out images while training: the curve, and what it decides."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from diffusion_ode import units
from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.model import Model
from diffusion_ode.errors import UserError
from diffusion_ode.inference.variational_bound import VariationalBound
from diffusion_ode.randomness import image_keys, stream_key
from diffusion_ode.ranges import Count
from diffusion_ode.reporting.quantities import counted
from diffusion_ode.training.program import TrainProgram
from diffusion_ode.training.sharding import Placement
from diffusion_ode.typing import Parameters

VALIDATION, TEST = "validation", "test"

_LARGEST_SHARE = 0.02  # of the training's time that validating may take
# A gradient takes about three forward passes; counted as two, so that the share is kept even where
# the backward pass is cheap.
_PASSES_PER_TRAINING_IMAGE = 2
_LARGEST_BATCH = 128
_FEWEST_POINTS = 4  # of a run whose interval is chosen: fewer images are judged before that


class Validation(NamedTuple):
    """One point of the curve.

    Attributes:
      step: optimiser steps done.
      bpd: the variational bound of the averaged parameters, in bits per dimension.
      standard_error: of it, over images.
    """

    step: int
    bpd: float
    standard_error: float


def in_bits(point: Validation) -> str:
    """The point's bound; without an error where a single image has none."""
    error = point.standard_error
    return f"{point.bpd:.3f}{'' if math.isnan(error) else f' ± {error:.3f}'} bpd"


@runtime_checkable
class StopRule(Protocol):
    """Ends a training before its last step."""

    def stops(self, curve: Sequence[Validation]) -> bool:
        """Whether the training ends here; the curve's newest point is its last."""
        ...


@dataclass(frozen=True)
class NoImprovement:
    """Stops when so many validations in a row have not beaten the lowest one before them.

    Args:
      patience: validations without improvement.

    Source: Prechelt 1998, "Early stopping — but when?", the criterion UP in its simplest form.
    """

    patience: Count = 5

    __post_init__ = check_fields

    def stops(self, curve):
        if not curve:
            return False
        bpd = [point.bpd if math.isfinite(point.bpd) else math.inf for point in curve]
        return len(curve) - 1 - bpd.index(min(bpd)) >= self.patience


class HeldOutBound:
    """The variational bound of a fixed set of images under fixed noise and times.

    They are common random numbers: what moves from one step to another is the model.

    Args:
      model: which is trained.
      placement: the training's mesh; all its processes judge together.
      images: levels, uint8 [n, height, width, channels].
      bound: how an image's bound is estimated.
      seed: of the run.
    """

    def __init__(
        self,
        model: Model,
        placement: Placement,
        images: np.ndarray,
        bound: VariationalBound,
        seed: int,
    ):
        # Batches of one size, which is as small as their number allows: padding costs time.
        batches, devices = math.ceil(len(images) / _LARGEST_BATCH), placement.mesh.size
        size = devices * math.ceil(len(images) / (batches * devices))
        self._count, self._dimensions = len(images), model.pixels.dimensions
        self._placement = placement
        rows = placement.rows(size)
        self._batches = []
        for first in range(0, len(images), size):
            # Padded with the last image, so that every batch has the shape that is compiled.
            indices = np.minimum(first + np.arange(size), len(images) - 1)[rows]
            self._batches.append((np.asarray(images[indices], np.int32), indices.astype(np.int32)))

        @functools.partial(jax.jit, out_shardings=placement.replicated)
        def judge(seed, ema, levels, indices):
            return sum(
                bound.terms(model, ema, levels, image_keys(stream_key(seed, "validation"), indices))
            )

        # An argument, so that it is compiled once for all seeds.
        self._judge = functools.partial(judge, np.uint32(seed))

    def __call__(self, ema: Parameters) -> np.ndarray:
        """Bits per dimension of every image, [n]."""
        nats = [
            np.asarray(self._judge(ema, *self._placement.place_batch(batch)))
            for batch in self._batches
        ]
        return units.bits_per_dimension(np.concatenate(nats)[: self._count], self._dimensions)


@dataclass
class ValidationCurve:
    """When it is validated, on what, and all that was found so far.

    Attributes:
      judge: gives bits per dimension of each image for averaged parameters.
      split: that the images are of; test images are watched and choose nothing.
      every: in steps; None never validates.
      rule: that may end the training early.
      points: so far; they are saved with every checkpoint, so a resumed run has the same curve.
    """

    judge: Callable[[Parameters], np.ndarray] | None = None
    split: str = VALIDATION
    every: int | None = None
    rule: StopRule | None = None
    points: list[Validation] = field(default_factory=list)

    def validate(self, step: int, ema: Parameters) -> dict[str, float]:
        """Adds a point; returns it by the names under which it is logged."""
        assert self.judge is not None  # it is due only where there is one
        bpd = self.judge(ema)
        error = float(np.std(bpd, ddof=1) / math.sqrt(len(bpd))) if len(bpd) > 1 else math.nan
        self.points.append(Validation(step, float(np.mean(bpd)), error))
        logged = {f"{self.split}/bpd": self.points[-1].bpd}
        return logged if math.isnan(error) else {**logged, f"{self.split}/standard_error": error}

    @property
    def is_lowest(self) -> bool:
        """Whether the newest point is the lowest of all; the first such one counts."""
        return len(self.points) > 0 and self.lowest is self.points[-1]

    @property
    def lowest(self) -> Validation | None:
        """The point with the lowest bound that is a number."""
        finite = [point for point in self.points if math.isfinite(point.bpd)]
        return min(finite, key=lambda point: point.bpd, default=None)

    @property
    def stops(self) -> bool:
        """Whether the training ends here."""
        return self.rule is not None and self.rule.stops(self.points)

    def metrics(self, step: int) -> dict[str, float]:
        """What a checkpoint of this step is judged by."""
        if self.points and self.points[-1].step == step:
            return {f"{self.split}_bpd": self.points[-1].bpd}
        return {}

    def facts(self) -> dict[str, Any]:
        """To be saved with a checkpoint, for `resume`."""
        return {"validations": [list(point) for point in self.points]} if self.points else {}

    def resume(self, facts: Mapping[str, Any]) -> None:
        """Goes on with the curve of a checkpoint."""
        self.points = [Validation(*point) for point in facts.get("validations", ())]

    def words(self) -> list[str]:
        """For the live line."""
        if not self.points:
            return []
        return [f"{self.split} {in_bits(self.points[-1])}"]


def chosen_interval(
    num_images: int, bound: VariationalBound, batch_size: int, checkpoint_every: int
) -> int:
    """Steps between two validations that take no more than a fiftieth of the training's time.

    It is counted in passes over the network, not timed, so that a resumed run chooses alike; and it
    is a multiple of the checkpoints' interval, so that the lowest point has a checkpoint.
    """
    passes = num_images * bound.draws
    steps = passes / (_LARGEST_SHARE * _PASSES_PER_TRAINING_IMAGE * batch_size)
    return checkpoint_every * math.ceil(steps / checkpoint_every)


def affordable_count(bound: VariationalBound, batch_size: int, num_steps: int) -> int:
    """Images that can be judged a few times in a run within the same share of its time."""
    passes = _LARGEST_SHARE * _PASSES_PER_TRAINING_IMAGE * batch_size * num_steps
    return max(1, int(passes / (bound.draws * _FEWEST_POINTS)))


def validation_curve(
    program: TrainProgram,
    images: Any,
    *,
    split: str,
    every: int | None,
    count: int,
    bound: VariationalBound,
    rule: StopRule | None,
    checkpoint_every: int,
    say: Callable[[str], None],
) -> ValidationCurve:
    """The empty curve of a training; without a point ever where there are no images to judge.

    Args:
      program: what is trained.
      images: the data; `images.split(name)` gives those of a split.
      split: "validation", or "test" for watching only.
      every: in steps; None chooses, see `chosen_interval`.
      count: images that are judged, evenly spread over the split; 0 for no validation.
      bound: how an image is judged.
      rule: may end the training early.
      checkpoint_every: the interval of the checkpoints.
      say: takes a sentence.

    Raises:
      UserError: validation was asked for and there is nothing to validate on, or a rule would let
        test images choose.
    """
    if every is not None and not count:
        raise UserError(
            f"train.validate_every = {every}, but train.validation_images = 0 judges none: give a"
            " number of images, or leave train.validate_every out."
        )
    if every is None:
        count = min(count, affordable_count(bound, program.batch_size, program.num_steps))
    chosen = spread(images.split(split), count)
    if rule is not None and (split == TEST or not len(chosen)):
        why = "test images choose nothing" if split == TEST else "nothing is validated"
        raise UserError(
            f"train.stop_when = {rule} needs validation images, and {why}: hold some of the"
            " training images out by --set data.held_out=…"
        )
    if not len(chosen):
        if every is not None:
            raise UserError(
                f"train.validate_every = {every}, but no images are held out for validation: set"
                " data.held_out, or train.validate_on=test to watch test images, which then choose"
                " nothing."
            )
        return ValidationCurve(split=split)
    interval = every or chosen_interval(len(chosen), bound, program.batch_size, checkpoint_every)
    what = f"{counted(len(chosen), f'{split} image')} every {counted(interval, 'step')}"
    choice = "" if every else ", which takes at most 2 % of the time of the steps"
    say(f"{'watching' if split == TEST else 'validating on'} {what}{choice}")
    judge = HeldOutBound(program.model, program.placement, chosen, bound, program.seed)
    return ValidationCurve(judge, split, interval, rule)


def spread(images: np.ndarray, count: int) -> np.ndarray:
    """As many images as are wanted, evenly spread over those that there are."""
    count = min(count, len(images))
    return np.asarray(images[np.arange(count) * len(images) // max(count, 1)])
