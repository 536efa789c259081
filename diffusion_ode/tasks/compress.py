"""The task that writes images as one file."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffusion_ode import units
from diffusion_ode.checking import check_fields
from diffusion_ode.coding.chain import check_model
from diffusion_ode.coding.codec import Coded
from diffusion_ode.coding.container import MAX_IMAGE_BYTES, compress, decompress
from diffusion_ode.coding.environment import described
from diffusion_ode.coding.settings import CodecSettings
from diffusion_ode.diffusion.model import Model
from diffusion_ode.distributed import processes
from diffusion_ode.errors import UserError
from diffusion_ode.evaluation.judged_images import Split
from diffusion_ode.evaluation.loaded_model import LoadedModel
from diffusion_ode.evaluation.passes import fill
from diffusion_ode.evaluation.per_example import PerExampleTable
from diffusion_ode.evaluation.reference_quirks import ReferenceQuirks
from diffusion_ode.evaluation.uncertainty import standard_error
from diffusion_ode.ranges import Count
from diffusion_ode.reporting.compilation_time import CompilationTime
from diffusion_ode.reporting.console import Console
from diffusion_ode.reporting.picture_codes import picture_codes
from diffusion_ode.reporting.progress import Progress
from diffusion_ode.reporting.quantities import data_size, with_error
from diffusion_ode.tasks.evaluate import Evaluate
from diffusion_ode.tasks.interruptible import interruptible
from diffusion_ode.tasks.kept_apart import check_kinds
from diffusion_ode.tasks.loading import find_images, load_images, load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Subject
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.typing import Parameters
from diffusion_ode.workdir.files import replace_atomically
from diffusion_ode.workdir.result_files import write_json

FOLDER, SUFFIX = "compressed", ".ode"


@dataclass(frozen=True)
class Compress:
    """Images as a file of about as many bits as the likelihood promises.

    The likelihoods beside it are those of the experiment's task `evaluate`, by one draw an image.

    Args:
      num_images: the first n of the split; None for all.
      split: train, validation or test.
      codec: steps and grid.
      likelihoods: whether they are found, which takes far longer than the file of few steps.
    """

    num_images: Count | None = None
    split: Split = "test"
    codec: CodecSettings = field(default_factory=CodecSettings)
    likelihoods: bool = True

    __post_init__ = check_fields

    def check(self, experiment: Subject) -> None:
        """Refuses a model that no code goes along, and likelihoods that cannot be found of it."""
        check_model(experiment.model)
        judge = getattr(experiment, "evaluate", None)
        if self.likelihoods and isinstance(judge, Evaluate):
            judge.check(experiment)

    def check_reading(self, run: Run) -> None:
        """Refuses several processes, and images that are not there, or too many."""
        refuse_several(run)
        if self.split == "validation":  # the others training has
            find_images(run, self.split, self.num_images)
        _refuse_too_many(run.load_data().split(self.split)[: self.num_images])
        self._check_place(run)

    def _check_place(self, run: Run) -> None:
        files = (f"*-{self.split}*{suffix}" for suffix in (SUFFIX, ".json"))
        check_kinds(run.workdir / FOLDER, files=tuple(files))

    def run(self, run: Run) -> TaskResult:
        """Writes `compressed/STEP-SPLIT.ode` once it has been decoded again, and its figures.

        A file of the same images is replaced, whatever its steps.
        """
        refuse_several(run)
        self._check_place(run)
        with interruptible(run) as console:
            loaded = load_model(run, console.print)
            check_model(loaded.model)
            images = load_images(run, loaded, self.split, self.num_images, console.print)
            _refuse_too_many(images.levels)
            run.begin(data_fingerprint=images.identity.fingerprint, checkpoint=loaded.step)
            console.log_to(run.log_path)
            likelihoods = {}
            if self.likelihoods:
                judge = getattr(run.experiment, "evaluate", None)
                likelihoods = _likelihoods(judge, loaded, images.levels, console)
            console.print(f"compressing {images} by step {loaded.step}, T = {self.codec.steps}")
            arguments = (loaded.model, loaded.parameters)

            with _timed(console, "image", len(images)) as encoding:
                file = compress(*arguments, images.levels, self.codec, encoding.progress.update)
            with _timed(console, "decoded image", len(images)) as decoding:
                decoded = _read_again(*arguments, file.data, decoding)
            if not np.array_equal(decoded, images.levels):
                raise RuntimeError("the decoded images are others")
            speeds = [len(images) / each.seconds for each in (encoding, decoding)]

            figures = _sizes(file.data, file.coded, images.levels) | likelihoods
            pictures = picture_codes(images.levels)
            most = "" if len(images) == images.split_size else f"-first{len(images)}"
            path = run.workdir / FOLDER / f"{loaded.step}-{self.split}{most}{SUFFIX}"
            run.recorder.check_there()
            with replace_atomically(path, "wb") as out:
                out.write(file.data)
            write_json(
                path.with_suffix(".json"),
                {
                    "data": images.facts(),
                    "checkpoint": {"step": loaded.step, "digest": loaded.facts["digest"]},
                    "bytes": len(file.data),
                    "written_on": described(),
                    "bits_per_dimension": {**figures, **pictures},
                    "images_per_second": dict(zip(("encoding", "decoding"), speeds, strict=True)),
                    "config": run.document,
                },
            )
        return TaskResult(
            rows=[
                ("file", f"{data_size(len(file.data))}, decoded: equal, every byte"),
                *_rows(figures, pictures),
                (
                    "images a second",
                    "{:.2f} encoded, its steps chosen; {:.2f} decoded".format(*speeds),
                ),
            ],
            written=[("file", path), ("figures", path.with_suffix(".json"))],
            next_flags=[
                *([] if run.init_from else [f"--checkpoint={loaded.step}"]),
                "--task=decompress",
                f"--set=decompress.file={path}",
            ],
        )


def _read_again(model: Model, parameters: Parameters, data: bytes, decoding: "_Timed"):
    try:
        return decompress(model, parameters, data, decoding.progress.update)
    except UserError as error:
        raise UserError(
            "What was written could not be read again, so that it is not kept: this device does not"
            " compute the same numbers twice. Compress on another, such as by JAX_PLATFORMS=cpu."
        ) from error


def _likelihoods(
    evaluate: Any, loaded: LoadedModel, levels: np.ndarray, console: Console
) -> dict[str, float | None]:
    """What the file is compared with, and the standard errors."""
    judge = evaluate if isinstance(evaluate, Evaluate) else Evaluate()
    passes = replace(judge, num_importance=1, quirks=ReferenceQuirks()).passes()
    figures = {}
    for name, each in zip(("ode", "bound"), passes, strict=True):
        if each is None:
            continue
        table = PerExampleTable(each.columns)
        fill(table, each, loaded, levels, console)
        nats = each.nats(table.columns_of(len(levels)))
        bits = np.asarray(units.bits_per_dimension(nats, loaded.model.pixels.dimensions))
        for key, figure in ((name, np.mean(bits)), (f"{name}_error", standard_error(bits))):
            figures[key] = float(figure) if np.isfinite(figure) else None
    return figures


@dataclass
class _Timed:
    """Attributes: `progress`; `seconds` that were worked, without compiling."""

    progress: Progress
    seconds: float = 0.0


@contextlib.contextmanager
def _timed(console: Console, noun: str, total: int) -> Iterator[_Timed]:
    timed = _Timed(Progress(console, noun, total))
    start = time.perf_counter()
    with CompilationTime() as compiling:
        yield timed
    timed.progress.end()
    timed.seconds = time.perf_counter() - start - compiling.seconds


def refuse_several(run: Run) -> None:
    """One device codes, since only then are all floats the same again.

    Raises:
      UserError: there are several processes.
    """
    if processes.count() > 1:
        raise UserError(
            f"A file is coded by one device, and {processes.count()} processes run: give"
            " --num_processes=1."
        )


def _refuse_too_many(levels: np.ndarray) -> None:
    if levels.nbytes > MAX_IMAGE_BYTES:
        most = MAX_IMAGE_BYTES // levels[0].nbytes
        raise UserError(
            f"The images to compress take {data_size(levels.nbytes)}, where one file is for at most"
            f" {data_size(MAX_IMAGE_BYTES)}: give --set compress.num_images={most}, or fewer."
        )


def _sizes(data: bytes, coded: Coded, images: np.ndarray) -> dict[str, float | None]:
    """Bits per dimension: of all images by the file, of the coded ones by the others."""
    dimensions = images[0].size
    some = coded.coded * dimensions
    return {
        "file": 8 * len(data) / images.size,
        "payload": coded.net_bits / some if some else None,
        "steps_bound": units.bits_per_dimension(coded.bound_nats, some) if some else None,
        "first_images": coded.plain_bits / images.size,
        "header": 8 * (len(data) - len(coded.payload)) / images.size,
    }


def _rows(figures: dict[str, Any], pictures: dict[str, float]) -> list[tuple[str, str]]:
    labels = {
        "file": "bits per dimension of all of it",
        "payload": "payload, without the first images",
        "steps_bound": "the bound of its steps and draws",
        "bound": "the bound in continuous time",
        "ode": "the likelihood by the ODE",
    }
    rows = []
    for name, label in labels.items():
        figure, error = figures.get(name), figures.get(f"{name}_error")
        if figure is not None:
            rows.append((label, with_error(figure, error) if error else f"{figure:.4f}"))
        elif name == "payload":
            rows.append((label, "none: so few images are all coded plainly"))
    return rows + [(name, f"{bits:.4f}") for name, bits in pictures.items()]
