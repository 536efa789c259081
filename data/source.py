"""What a data set is to the rest of the program: images, and the facts that identify them."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from data.checksum import content_checksum
from diffusion_ode.errors import UserError

# Half a SHA-256's first half: enough that two data sets never share one, short enough for a table.
FINGERPRINT_DIGITS = 16


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """How many images a split has, and the checksum of their content in order."""

    count: int
    checksum: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The facts of a data set.

    Attributes:
        name: the source's name, e.g. `cifar10`.
        shape: (height, width, channels) of every image.
        levels: values run from 0 to levels − 1.
        train: facts of the training images.
        test: facts of the test images.
        sources: (file name, checksum) of what the images were made from.
        notes: sentences about what was divided, converted and left out.
    """

    name: str
    shape: tuple[int, int, int]
    levels: int
    train: SplitFacts
    test: SplitFacts
    sources: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that identify the images: name, shape, levels, counts and content.

        The files they came from do not enter: CIFAR-10 read from the binary or from the pickled
        archive is one data set, and figures on it may be compared.
        """
        facts = self.to_json()
        del facts["sources"], facts["notes"]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON tree."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Manifest":
        """The manifest a JSON tree describes; raises KeyError, TypeError or ValueError if none."""
        height, width, channels = (int(size) for size in tree["shape"])
        return cls(
            name=str(tree["name"]),
            shape=(height, width, channels),
            levels=int(tree["levels"]),
            train=SplitFacts(int(tree["train"]["count"]), str(tree["train"]["checksum"])),
            test=SplitFacts(int(tree["test"]["count"]), str(tree["test"]["checksum"])),
            sources=tuple((str(file), str(checksum)) for file, checksum in tree["sources"]),
            notes=tuple(map(str, tree.get("notes", ()))),
        )


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set's images, uint8 [n,h,w,c], memory-mapped where stored.

    Attributes:
        manifest: the facts about all of them, those held out among the training images.
        train, test: the splits.
        validation: images held out from training to choose by; None if there are none.
    """

    manifest: Manifest
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    def split(self, name: str) -> np.ndarray:
        """The images of the split `train`, `validation` (there may be none) or `test`."""
        held_out = self.test[:0] if self.validation is None else self.validation
        return {"train": self.train, "validation": held_out, "test": self.test}[name]


@runtime_checkable
class Source(Protocol):
    """A data set by name. What it looks like is known without its data; its images by `load`.

    One of your own is a dataclass with these four: three may be plain class attributes, and `load`
    may return `describe_images(self, train, test)` for images in memory, or `converted(…)` of
    `data.conversion` for those that are stored once and mapped.
    """

    @property
    def name(self) -> str:
        """The name under which it is prepared, e.g. `cifar10`."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every image: (height, width, channels)."""
        ...

    @property
    def levels(self) -> int:
        """Values run from 0 to levels − 1."""
        ...

    def load(self, data_dir: Path | None = None) -> ImageData:
        """The images; raises MissingData, one sentence that says how to get them, without them."""
        ...


def describe_images(
    source: Source,
    train: np.ndarray,
    test: np.ndarray,
    sources: tuple[tuple[str, str], ...] = (),
    notes: tuple[str, ...] = (),
) -> ImageData:
    """Images in memory together with the manifest that describes them.

    Raises:
        UserError: they are not what the source says that they are.
    """
    for split, images in (("training", train), ("test", test)):
        if images.dtype != np.uint8 or images.shape[1:] != tuple(source.shape) or not len(images):
            raise UserError(
                f"{source.name} has {split} images {images.dtype} {list(images.shape)}: give at"
                f" least one, uint8 [n, {', '.join(map(str, source.shape))}], the source's shape."
            )
        if (largest := images.max()) >= source.levels:
            raise UserError(
                f"{source.name} has {split} images with values up to {largest}, but levels ="
                f" {source.levels} allows {source.levels - 1}: set"
                f" data.source.levels={int(largest) + 1} or more, and model.pixels.levels alike."
            )
    manifest = Manifest(
        name=source.name,
        shape=source.shape,
        levels=source.levels,
        train=SplitFacts(len(train), content_checksum(train)),
        test=SplitFacts(len(test), content_checksum(test)),
        sources=sources,
        notes=notes,
    )
    return ImageData(manifest, train, test)
