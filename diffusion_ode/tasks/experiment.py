"""The root of every config."""

from dataclasses import dataclass, field

from diffusion_ode.checking import check_fields
from diffusion_ode.diffusion.learned_schedule import LearnedSchedule
from diffusion_ode.diffusion.model import Model
from diffusion_ode.diffusion.schedule import ChecksSchedule
from diffusion_ode.errors import UserError
from diffusion_ode.tasks import registry
from diffusion_ode.tasks.compare import Compare
from diffusion_ode.tasks.compress import Compress
from diffusion_ode.tasks.decompress import Decompress
from diffusion_ode.tasks.dequantizer import Dequantizer
from diffusion_ode.tasks.fid import Fid
from diffusion_ode.tasks.run import Task
from diffusion_ode.tasks.subject import Data, made_before
from diffusion_ode.training.sharding import Mesh


@dataclass(frozen=True)
class Experiment:
    """A model, its data, and what is done with them.

    Args:
      model: the diffusion ODE.
      data: the images.
      train: how it is trained.
      evaluate: how its likelihood is measured.
      sample: how images are drawn.
      fid: what samples are judged by, besides the likelihood.
      compare: which evaluations are compared.
      compress: which images become a file, and how.
      decompress: which file.
      dequantizer: how a dequantisation is trained for the model.
      mesh: how the devices are used.
      after_training: the tasks that run when training ends.
      tasks: the settings of other tasks, which `--task=module:Class` runs.
    """

    model: Model
    data: Data
    train: Task
    evaluate: Task
    sample: Task
    mesh: Mesh
    after_training: tuple[str, ...] = ("evaluate", "sample")
    fid: Task = field(default_factory=Fid)
    compare: Task = field(default_factory=Compare)
    compress: Task = field(default_factory=Compress)
    decompress: Task = field(default_factory=Decompress)
    dequantizer: Task = field(default_factory=Dequantizer)
    tasks: tuple[Task, ...] = ()

    def __post_init__(self):
        check_fields(self, but=("data",))
        pixels = self.model.pixels
        shape, levels = tuple(self.data.shape), self.data.levels
        if (tuple(pixels.shape), pixels.levels) != (shape, levels):
            raise UserError(
                f"The model is for images of shape {tuple(pixels.shape)} with {pixels.levels} "
                f"levels, the data {self.data.name} has {shape} with {levels}: give "
                f"--set 'model.pixels=pixels(shape={shape}, levels={levels})'"
                f"{self._other_levels() if tuple(pixels.shape) == shape else ''}."
            )
        objective = getattr(self.train, "objective", None)
        if isinstance(self.model.schedule, LearnedSchedule):
            self.model.schedule.check(objective)
        if isinstance(self.model.path, ChecksSchedule):
            self.model.path.check(self.model.schedule)
        validation_bound = getattr(self.train, "validation_bound", None)
        for of in (objective, validation_bound, getattr(self.evaluate, "bound", None)):
            times = getattr(of, "times", None)
            if isinstance(times, ChecksSchedule):
                times.check(self.model.schedule)
            self.model.schedule.check_times(times)
        for i, name in enumerate(self.after_training):
            if registry.find(name).name == "train":
                raise UserError("after_training names 'train', which has just ended: leave it out.")
            if name == "compare" and getattr(self.compare, "other", None) is None:
                raise UserError(
                    "after_training names 'compare', where --with cannot name another model: set"
                    " compare.other to another evaluation, or leave it out."
                )
            if name in self.after_training[:i]:
                raise UserError(
                    f"after_training names {name!r} twice, which would do the same again: leave one"
                    " out."
                )
            given = (getattr(self.fid, field, None) for field in ("samples", "features"))
            if name == "fid" and not any(given) and not made_before(self, "fid", "sample"):
                raise UserError(
                    "after_training names 'fid' without 'sample' before it, so that there are no"
                    " samples of this training: put 'sample' before it, or set fid.features."
                )

    def _other_levels(self) -> str:
        """What else may be wrong where only the levels differ: the source may not know better."""
        levels = self.model.pixels.levels
        if "levels" not in getattr(getattr(self.data, "source", None), "__dataclass_fields__", ()):
            return ""
        return f", or, if all values are below {levels}, --set data.source.levels={levels}"
