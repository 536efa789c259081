"""The task that reads a compressed file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_ode.checking import check_fields
from diffusion_ode.coding.container import MAGIC, MAX_BYTES, decompress, unpack
from diffusion_ode.errors import UserError
from diffusion_ode.foreign import open_regular, read_regular
from diffusion_ode.home import expanded
from diffusion_ode.reporting.image_grid import image_grid, write_picture
from diffusion_ode.reporting.progress import Progress
from diffusion_ode.reporting.quantities import counted, data_size
from diffusion_ode.tasks.compress import FOLDER, SUFFIX, refuse_several
from diffusion_ode.tasks.interruptible import interruptible
from diffusion_ode.tasks.kept_apart import check_kinds, folder_of
from diffusion_ode.tasks.loading import load_model
from diffusion_ode.tasks.run import Run
from diffusion_ode.tasks.subject import Subject, made_before, made_in
from diffusion_ode.tasks.task_result import TaskResult
from diffusion_ode.workdir.files import replace_atomically

_IMAGES_IN_GRID = 100


@dataclass(frozen=True)
class Decompress:
    """The images of a file that the task compress has written.

    Args:
      file: its path.
    """

    file: str | None = None

    __post_init__ = check_fields

    def check(self, experiment: Subject) -> None:
        """Refuses to read nothing."""
        if self.file is None:
            raise UserError("decompress.file is None: name a file by --set decompress.file=PATH.")

    def check_reading(self, run: Run) -> None:
        """Refuses a file that is damaged, or not there, unless a task before this one makes it."""
        self._check_place(run)
        if made_before(run.experiment, "decompress"):
            return
        made = made_before(run.experiment, "decompress", "compress")
        file, folder = expanded(str(self.file)), run.workdir / FOLDER
        if not (made and made_in(folder, file, rf"\d+-\w+(-first\d+)?\{SUFFIX}")):
            unpack(self._read())

    def _check_place(self, run: Run) -> None:
        refuse_several(run)
        check_kinds(run.workdir, folders=("decompressed",))

    def run(self, run: Run) -> TaskResult:
        """Writes `decompressed/NAME/images.npz` and `grid.png`; nothing if a byte is amiss.

        Images of another file of that name are left where they are, and these go to `NAME-2`.
        """
        self.check(run.experiment)
        self._check_place(run)
        root = run.workdir / "decompressed"
        data = self._read()
        header, _ = unpack(data)  # a damaged one is refused before a checkpoint is read
        count = header.count
        with interruptible(run) as console:
            loaded = load_model(run, console.print)
            progress = Progress(console, "image", count)
            images = decompress(loaded.model, loaded.parameters, data, progress.update)
            progress.end()
            run.begin(checkpoint=loaded.step)
            console.log_to(run.log_path)
            origin = ("decoded_from", hashlib.sha256(data).hexdigest())
            folder = folder_of(root, Path(str(self.file)).stem, "images.npz", origin)
            run.recorder.check_there()
            with replace_atomically(folder / "images.npz", "wb") as out:
                np.savez_compressed(out, images=images, decoded_from=origin[1])
            written = [("images", folder / "images.npz")]
            if images.shape[-1] in (1, 3) and images.dtype == np.uint8:
                grid = image_grid(images[:_IMAGES_IN_GRID], loaded.model.pixels.levels)
                write_picture(folder / "grid.png", grid)
                written.append(("picture", folder / "grid.png"))
        return TaskResult(
            [("decoded", f"{counted(count, 'image')}, every byte as it was")], written
        )

    def _read(self) -> bytes:
        path = expanded(str(self.file))
        if not path.is_file():
            raise UserError(f"decompress.file = {path} is no file: name one that compress wrote.")
        with open_regular(path) as file:
            head = file.read(len(MAGIC))
        if head != MAGIC:
            return head  # no other is read whole
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"decompress.file = {path} has more than {data_size(MAX_BYTES)}, as no file that"
                " compress wrote: get it anew."
            )
        return read_regular(path, MAX_BYTES)
