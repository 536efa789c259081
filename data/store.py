"""Prepared data sets on disk, read by memory map; `data.conversion` writes them.

DATA_DIR/NAME/{train.npy, test.npy, manifest.json}.
"""

from pathlib import Path

import numpy as np

from data.checksum import content_checksum
from data.errors import damaged, reading, remedied
from data.formats.numpy_file import open_npy
from data.location import resolve_data_dir
from data.recipe import Recipe
from data.source import ImageData, Manifest, Source, SplitFacts
from diffusion_ode.foreign import parsed_json, read_regular

MANIFEST_FILE = "manifest.json"
# Of a conversion's progress, too; a source of a thousand files takes a hundredth of it.
MAX_MANIFEST_BYTES, MAX_MANIFEST_ITEMS = 1 << 24, 1 << 18

# Content is verified at every opening up to this size (about a second); beyond it,
# `python -m data.prepare NAME` verifies it.
VERIFIED_BYTES = 512 << 20


def is_prepared(data_dir: Path, name: str) -> bool:
    """Whether a whole data set of that name is there."""
    return (data_dir / name / MANIFEST_FILE).is_file()


def open_published(source: Source, recipe: Recipe, data_dir: Path | None) -> ImageData:
    """The images of a published data set, by default where prepared ones are.

    Raises:
        MissingData: it has not been prepared; says how to.
        DamagedData: what was prepared is no longer what it was.
    """
    folder = resolve_data_dir(data_dir)
    if not is_prepared(folder, source.name):
        raise recipe.missing(folder)
    return open_prepared(source, folder)


def open_prepared(
    source: Source, data_dir: Path, *, name: str | None = None, verify: bool | None = None
) -> ImageData:
    """The images of a prepared data set, memory-mapped.

    Args:
        source: what they must look like.
        data_dir: where prepared data sets are.
        name: the folder in it; the source's name if None.
        verify: whether to compare content and checksum; None: up to VERIFIED_BYTES.
    """
    folder = data_dir / (name or source.name)
    remedy = f"remove {folder} and prepare it again (`python -m data.prepare {source.name}`)"
    if name is not None:  # A user's own, of which that command knows nothing.
        remedy = f"remove {folder}: it is prepared again when it is next used"
    file = folder / MANIFEST_FILE
    with remedied(remedy), reading(file, "a manifest"):
        manifest = Manifest.from_json(
            parsed_json(read_regular(file, MAX_MANIFEST_BYTES), MAX_MANIFEST_ITEMS)
        )
    found = (manifest.name, manifest.shape, manifest.levels)
    expected = (source.name, source.shape, source.levels)
    if found != expected:
        raise damaged(file, f"describes {found}", f"(name, shape, levels) = {expected}", remedy)
    train = _open_split(folder / "train.npy", manifest.train, manifest, remedy)
    test = _open_split(folder / "test.npy", manifest.test, manifest, remedy)
    if verify is None:
        verify = train.nbytes + test.nbytes <= VERIFIED_BYTES
    if verify:
        _verify(folder / "train.npy", train, manifest.train, remedy)
        _verify(folder / "test.npy", test, manifest.test, remedy)
    return ImageData(manifest, train, test)


def _open_split(path: Path, facts: SplitFacts, manifest: Manifest, remedy: str) -> np.ndarray:
    expected = (facts.count, *manifest.shape)
    with remedied(remedy):
        images = open_npy(path)
    if images.shape != expected or images.dtype != np.uint8:
        found = f"holds {images.dtype} of shape {images.shape}"
        raise damaged(path, found, f"uint8 of shape {expected}", remedy)
    return images


def _verify(path: Path, images: np.ndarray, facts: SplitFacts, remedy: str) -> None:
    found = content_checksum(images)
    if found != facts.checksum:
        raise damaged(path, f"has content {found}", facts.checksum, remedy)
