"""Some steps of a training recorded for TensorBoard's profile."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from diffusion_ode.checking import check_fields
from diffusion_ode.errors import UserError
from diffusion_ode.ranges import Count


@dataclass(frozen=True)
class Steps:
    """Steps of a run, counted from 1 as the screen shows them; both ends are included."""

    first: Count
    last: Count

    def __post_init__(self):
        check_fields(self)
        if self.last < self.first:
            raise UserError(
                f"train.profile = {self} ends before it begins: give the first step, then the last."
            )

    def check_within(self, num_steps: int) -> None:
        """Refuses steps that a run of so many never comes to.

        Raises:
          UserError: the last of them is beyond the run's end.
        """
        if self.last > num_steps:
            raise UserError(
                f"train.profile = {self} lasts beyond the end of the training, step {num_steps}:"
                " choose steps within it, or raise train.num_steps."
            )

    def __str__(self) -> str:
        return f"steps({self.first}, {self.last})"


class Profiler:
    """Records the steps that it is asked to; a context, so that what was begun is written.

    Args:
      steps: which; None for none.
      folder: TensorBoard's; the record goes to `plugins/profile/TIME` in it.
      say: tells the user a sentence.
    """

    def __init__(
        self, steps: Steps | None, folder: Path, say: Callable[[str], None] = lambda _: None
    ):
        self._steps = steps
        self._folder = folder
        self._say = say
        self._recording = False

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self._recording:
            self.end()

    def announce(self, done: int) -> None:
        """Says so if a launch that goes on after `done` steps misses some of those asked for."""
        if self._steps is None or self._steps.first > done:
            return
        missed = "none" if self._steps.last <= done else f"only steps from {done + 1} on"
        self._say(
            f"train.profile = {self._steps}, but {done} step{' is' if done == 1 else 's are'} done"
            f" already: {missed} will be recorded"
        )

    def begins_with(self, number: int) -> bool:
        """Whether recording begins with this step: nothing should be under way any more."""
        return (
            self._steps is not None
            and not self._recording
            and self._steps.first <= number <= self._steps.last
        )

    def begin(self) -> None:
        """Begins to record."""
        jax.profiler.start_trace(self._folder)
        self._recording = True

    def ends_with(self, number: int) -> bool:
        """Whether recording ends with this step: it should be waited for."""
        return self._recording and self._steps is not None and number >= self._steps.last

    def end(self) -> None:
        """Writes what was recorded, and says where."""
        jax.profiler.stop_trace()
        self._recording = False
        self._say(
            f"profile recorded: tensorboard --logdir {self._folder}, tab Profile"
            " (pip install tensorboard xprof)"
        )
