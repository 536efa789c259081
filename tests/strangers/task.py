"""A task from outside: the mean brightness of the newest samples."""

from dataclasses import dataclass

import fiddle as fdl
import numpy as np

from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.task_result import TaskResult
from experiments.registry import experiment


@dataclass(frozen=True)
class Brightness:
    """Mean of all pixels in the workdir's samples."""

    digits: int = 2

    def run(self, run: Run) -> TaskResult:
        run.begin()
        newest = max(
            run.workdir.glob("samples/*/samples.npz"), key=lambda file: file.stat().st_mtime
        )
        mean = np.load(newest)["images"].mean()
        path = run.workdir / "brightness.txt"
        path.write_text(f"{mean:.{self.digits}f}")
        return TaskResult([("brightness", path.read_text())], [("brightness", path)])


@experiment(parent="digits_vp")
def digits_bright(config: fdl.Config) -> fdl.Config:
    """After training the samples' brightness is reported, with four digits."""
    config.tasks = (fdl.Config(Brightness, digits=4),)
    config.after_training = ("sample", "tests.strangers.task:Brightness")
    return config
