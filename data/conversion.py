"""Writing a prepared data set, so that a half one is never seen.

A conversion works in DATA_DIR/.NAME.partial, writes down after every block how far it is on disk,
and renames the folder when all of it is: killed at any moment, it leaves either nothing under NAME
or the whole, and goes on when started again.
"""

import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data.checksum import BLOCK_BYTES
from data.errors import DamagedData, damaged
from data.location import resolve_data_dir
from data.lock import waiting_lock
from data.recipe import Block
from data.report import Report, say
from data.source import ImageData, Manifest, Source, SplitFacts
from data.store import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MAX_MANIFEST_ITEMS,
    is_prepared,
    open_prepared,
)
from diffusion_ode.checking import shown
from diffusion_ode.errors import UserError, in_words
from diffusion_ode.foreign import open_regular, parsed_json, read_regular
from diffusion_ode.workdir.files import replace_atomically

PROGRESS_FILE = "progress.json"
SPLITS = ("train", "test")

# What a file in a folder's place raises, and a folder in a file's.
_IN_THE_WAY = (errno.EEXIST, errno.EISDIR)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is to be written under a name.

    Attributes:
        name: the folder's name.
        shape: (height, width, channels) that every block must have.
        levels: values must be below.
        counts: images expected per split; None if any number will do.
        blocks: per split, its images in order.
        sources: (file name, checksum) of what the blocks are read from.
        origin: what messages call the source, e.g. its path.
        manifest_name: the name in the manifest, where it is not the folder's.
        notes: see `Manifest`.
    """

    name: str
    shape: tuple[int, int, int]
    levels: int
    counts: dict[str, int | None]
    blocks: dict[str, Iterable[Block]]
    sources: tuple[tuple[str, str], ...]
    origin: str
    manifest_name: str | None = None
    notes: tuple[str, ...] = ()


def converted(
    source: Source,
    version: str,
    blocks: Mapping[str, Iterable[Block]],
    data_dir: Path | None = None,
    *,
    origin: str,
    report: Report = say,
    notes: tuple[str, ...] = (),
) -> ImageData:
    """The images of a source that is not read from where it lies: converted once, then mapped.

    Args:
        source: whose images they are.
        version: text that changes when the images do; each version is converted on its own.
        blocks: of the splits `train` and `test`; each block makes some images, in order.
        data_dir: where prepared data sets are; None for the default place.
        origin: what messages call the source, e.g. its path.
        report: is told what is going on.
        notes: sentences about what was divided, converted and left out, for the manifest.
    """
    folder, name = resolve_data_dir(data_dir), f"{source.name}-{version}"
    if not is_prepared(folder, name):
        conversion = Conversion(
            name=name,
            shape=source.shape,
            levels=source.levels,
            counts=dict.fromkeys(SPLITS),
            blocks=dict(blocks),
            sources=((origin, f"version:{version}"),),
            origin=origin,
            manifest_name=source.name,
            notes=notes,
        )
        convert(conversion, folder, report)
    return open_prepared(source, folder, name=name)


def convert(conversion: Conversion, data_dir: Path, report: Report = say) -> None:
    """Write a data set; a conversion that was interrupted goes on where it was.

    Another process that converts the same name is waited for. Raises DamagedData where blocks are
    not what is expected: nothing is left then. Raises UserError where the disk is full or not
    writable.
    """
    partial = data_dir / f".{conversion.name}.partial"
    try:
        with waiting_lock(data_dir, conversion.name, report):
            if is_prepared(data_dir, conversion.name):  # By another process, in the meantime.
                return
            final = data_dir / conversion.name
            if final.exists():
                raise UserError(
                    f"{final} is in the way and is no prepared data set: move it elsewhere."
                )
            _Writer(conversion, partial, report).write()
            partial.rename(final)
            _sync_folder(data_dir)
    except DamagedData:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        place = error.filename  # None of a file that is open: those that are read have boundaries
        if error.errno is None or (place and not Path(place).is_relative_to(data_dir)):
            raise
        if place and error.errno in _IN_THE_WAY:
            raise UserError(
                f"{place} is in the way ({error.strerror}): move it elsewhere, or choose another"
                " folder with --data_dir."
            ) from error
        raise UserError(
            f"{data_dir} cannot be written to ({error.strerror}): make room there or choose "
            "another folder with --data_dir; the conversion goes on where it was."
        ) from error


class _Writer:
    """One conversion into its partial folder."""

    def __init__(self, conversion: Conversion, folder: Path, report: Report):
        self._conversion = conversion
        self._folder = folder
        self._report = report
        # Of the images that are written: what `content_checksum` finds of them in the end.
        self._written = {split: hashlib.sha256() for split in SPLITS}

    def write(self) -> None:
        conversion = self._conversion
        progress = self._read_progress()
        facts = {
            split: self._write_split(split, progress, conversion.blocks[split]) for split in SPLITS
        }
        manifest = Manifest(
            name=conversion.manifest_name or conversion.name,
            shape=conversion.shape,
            levels=conversion.levels,
            train=facts["train"],
            test=facts["test"],
            sources=conversion.sources,
            notes=conversion.notes,
        )
        _write_json(self._folder / MANIFEST_FILE, manifest.to_json())
        (self._folder / PROGRESS_FILE).unlink()
        _sync_folder(self._folder)

    def _read_progress(self) -> dict[str, Any]:
        """What an interrupted conversion of the same files has written, else a fresh start."""
        sources = [list(source) for source in self._conversion.sources]
        file = self._folder / PROGRESS_FILE
        try:
            progress = parsed_json(read_regular(file, MAX_MANIFEST_BYTES), MAX_MANIFEST_ITEMS)
            if progress["sources"] == sources:
                self._written = {s: self._of_progress(s, **progress[s]) for s in SPLITS}
                return progress
        except FileNotFoundError:
            pass
        except Exception as error:  # anything may be in it
            self._report(f"{file} is damaged ({in_words(error)}): the conversion begins anew")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return {"sources": sources, **{s: _note(0, 0, self._written[s]) for s in SPLITS}}

    def _of_progress(self, split: str, *, blocks: Any, images: Any, checksum: Any) -> Any:
        """The running checksum of what is noted to be written.

        Raises:
            ValueError: they are no counts, or not those of the images that the split's file has.
        """
        if not all(type(count) is int and count >= 0 for count in (blocks, images)):
            raise ValueError(f"{split} has {shown(blocks)} blocks and {shown(images)} images")
        path = self._folder / f"{split}.npy"
        left = images * math.prod(self._conversion.shape)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(f"{path.name} is no file of its own")
        size = path.stat().st_size if path.exists() else 0
        if left > size:
            raise ValueError(f"{images} {split} images, but {path.name} has {size} bytes")
        written = hashlib.sha256()
        if left:
            with open_regular(path) as file:
                file.seek(_write_header(io.BytesIO(), (0, *self._conversion.shape)))
                while left and (piece := file.read(min(left, BLOCK_BYTES))):
                    written.update(piece)
                    left -= len(piece)
        if _note(blocks, images, written)["checksum"] != checksum:
            raise ValueError(f"the {images} {split} images in {path.name} are others")
        return written

    def _write_split(
        self, split: str, progress: dict[str, Any], blocks: Iterable[Block]
    ) -> SplitFacts:
        done = progress[split]
        path = self._folder / f"{split}.npy"
        bytes_per_image = math.prod(self._conversion.shape)
        with path.open("r+b" if path.exists() else "w+b") as file:
            start = _write_header(file, (0, *self._conversion.shape))
            if done["blocks"]:
                self._report(f"{split} images: going on after {done['images']}")
            # What was written after the last note of progress may be half a block.
            file.truncate(start + done["images"] * bytes_per_image)
            file.seek(0, os.SEEK_END)
            for number, block in enumerate(blocks):
                if number < done["blocks"]:
                    continue
                images = self._check(split, block(), done["images"])
                content = np.ascontiguousarray(images).data
                file.write(content)
                _sync(file)
                self._written[split].update(content)
                count = done["images"] + len(images)
                done |= _note(number + 1, count, self._written[split])
                _write_json(self._folder / PROGRESS_FILE, progress)
                self._report(f"{split} images: {done['images']}")
            self._check_count(split, done["images"])
            if _write_header(file, (done["images"], *self._conversion.shape)) != start:
                raise AssertionError("NumPy's header grew with the number of images")
            _sync(file)
        return SplitFacts(done["images"], f"sha256:{self._written[split].hexdigest()}")

    def _check(self, split: str, images: np.ndarray, before: int) -> np.ndarray:
        conversion = self._conversion
        if images.dtype != np.uint8 or images.shape[1:] != conversion.shape:
            found = f"has {split} images of {images.dtype} {images.shape[1:]}"
            raise damaged(conversion.origin, found, f"uint8 {conversion.shape}")
        if len(images) and images.max() >= conversion.levels:
            found = f"has the value {images.max()} among its {split} images"
            raise damaged(conversion.origin, found, f"at most {conversion.levels - 1}")
        expected = conversion.counts[split]
        if expected is not None and before + len(images) > expected:
            found = f"has more than {expected} {split} images"
            raise damaged(conversion.origin, found, f"exactly {expected}")
        return images

    def _check_count(self, split: str, count: int) -> None:
        expected = self._conversion.counts[split]
        if count != expected and expected is not None:
            found = f"has {count} {split} images"
            raise damaged(self._conversion.origin, found, f"exactly {expected}")
        if count == 0:
            raise damaged(self._conversion.origin, f"has no {split} images", "at least one")


def _note(blocks: int, images: int, written: Any) -> dict[str, Any]:
    """How far a split is, and the checksum of all that was written and of these counts."""
    sealed = written.copy()
    sealed.update(f"{blocks} blocks, {images} images".encode())
    return {"blocks": blocks, "images": images, "checksum": sealed.hexdigest()}


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> int:
    """Write a .npy header at the start; returns its length, which NumPy pads for counts to grow."""
    file.seek(0)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()


def _write_json(path: Path, tree: Any) -> None:
    with replace_atomically(path) as file:
        file.write(json.dumps(tree, indent=2))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
