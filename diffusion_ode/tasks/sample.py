"""The task that draws images."""

from dataclasses import dataclass, field, replace

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.costs.lanes import check_divided, check_images, check_lanes
from diffusion_ode.diffusion.model import Model
from diffusion_ode.distributed import processes
from diffusion_ode.inference.sampling import ChecksModel, OdeSampler, Sampler, drawn_in_order
from diffusion_ode.inference.sampling import Sample as Sampled
from diffusion_ode.randomness import stream_key
from diffusion_ode.ranges import Count, Seed
from diffusion_ode.reporting.image_grid import brightness, image_grid, write_picture
from diffusion_ode.reporting.progress import Progress
from diffusion_ode.reporting.quantities import counted, some_images
from diffusion_ode.reporting.tensorboard_writer import TensorBoardWriter
from diffusion_ode.tasks.interruptible import interruptible
from diffusion_ode.tasks.kept_apart import check_kinds, folder_of
from diffusion_ode.tasks.loading import load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Subject
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.files import replace_atomically

_IMAGES_IN_GRID = 100


@dataclass(frozen=True)
class Sample:
    """How images are drawn from the averaged parameters.

    Args:
      num_images: how many.
      sampler: by what.
      seed: image i of a seed is the same however many are drawn, on any number of devices.
      pictures: whether each image is written as a PNG of its own, too.
    """

    num_images: Count = 64
    sampler: Sampler = field(default_factory=OdeSampler)
    seed: Seed = 0
    pictures: bool = False

    __post_init__ = check_fields

    def check(self, experiment: Subject) -> None:
        """Refuses what does not fit into memory, and a sampler that cannot draw of the model."""
        check_images("sample.num_images", experiment.model, self.num_images)
        check_lanes("sample.sampler.lanes", experiment.model, self.sampler.lanes)
        check_divided("sample.sampler.lanes", self.sampler.lanes)
        if isinstance(self.sampler, ChecksModel):
            self.sampler.check(experiment.model)

    def check_reading(self, run: Run) -> None:
        """Refuses a workdir that can hold no samples."""
        folders = ("samples", "tensorboard/samples", "tensorboard/samples/[0-9]*")
        processes.by_leader(lambda: check_kinds(run.workdir, folders=folders))

    def run(self, run: Run) -> TaskResult:
        """Writes `samples/STEP/samples.npz` and `grid.png`, and the grid to TensorBoard.

        Images that were drawn otherwise are left where they are, and these go to `samples/STEP-2`;
        so they do beside a file that cannot be read.

        The arrays of the former are `images`, `nfe`, `converged` and `drawn_by`, which tells one
        sampling from another; an image that has not converged is noise.
        """
        self.check_reading(run)
        root = run.workdir / "samples"
        with interruptible(run) as console:
            loaded = load_model(run, console.print)
            model = loaded.model
            sharding = loaded.lanes_sharding(self.sampler.lanes)
            run.begin(checkpoint=loaded.step)
            console.log_to(run.log_path)
            console.print(f"drawing {counted(self.num_images, 'image')} from step {loaded.step}")
            progress = Progress(console, "image", self.num_images)
            mine = self.sampler.draw(
                model,
                loaded.parameters,
                processes.mine(range(self.num_images)),
                stream_key(self.seed, "samples"),
                sharding,
            )
            drawn = []
            for record in processes.gathered(mine, _record(model)):
                drawn.append(Sampled(*record))
                progress.update(len(drawn))
            progress.end()

            drawn = drawn_in_order(drawn)
            images = np.stack([sample.image for sample in drawn]).astype(model.pixels.dtype)
            nfe = np.asarray([sample.nfe for sample in drawn])
            converged = np.asarray([sample.converged for sample in drawn], bool)
            drawn_by = f"{replace(self, pictures=False)} of {loaded.facts.get('digest')}"
            origin = ("drawn_by", drawn_by)
            folder = folder_of(root, str(loaded.step), "samples.npz", origin, ("pictures",))
            if processes.is_leader():
                run.recorder.check_there()
                with replace_atomically(folder / "samples.npz", "wb") as file:
                    np.savez_compressed(
                        file, images=images, nfe=nfe, converged=converged, drawn_by=drawn_by
                    )
                grid = image_grid(images[:_IMAGES_IN_GRID], model.pixels.levels)
                write_picture(folder / "grid.png", grid)
                if self.pictures:
                    for i, image in enumerate(brightness(images, model.pixels.levels)):
                        write_picture(folder / "pictures" / f"{i:05d}.png", image)
                writer = TensorBoardWriter()
                writer.replace(run.workdir, f"samples/{loaded.step}")
                writer.write_image(loaded.step, "samples/final", grid)
                writer.close()
        evaluations = f"{counted(round(nfe.mean()), 'network evaluation')} each"
        rows = [("sampled", f"{counted(len(images), 'image')}, {evaluations}")]
        if not converged.all():
            rows += [
                ("NOT CONVERGED", some_images(np.flatnonzero(~converged).tolist())),
                ("", "raise sample.sampler.controller.max_steps"),
            ]
        pictures = [("pictures", folder / "pictures")] if self.pictures else []
        return TaskResult(
            rows=rows,
            written=[
                ("samples", folder / "samples.npz"),
                ("picture", folder / "grid.png"),
                *pictures,
            ],
            next_flags=["--task=sample", "--set=sample.num_images=1000"],
        )


def _record(model: Model) -> np.dtype:
    """A drawn image as processes send it to each other; fields as in `Sampled`."""
    image = ("image", model.pixels.dtype, model.pixels.shape)
    return np.dtype([("index", np.int64), image, ("nfe", np.int64), ("converged", np.bool_)])
