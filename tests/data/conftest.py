"""Small archives in exactly the publishers' formats, made from images that the test knows."""

import dataclasses
import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats.crc32c import masked_crc32c
from data.recipe import Recipe
from data.sources import cifar10, fashion_mnist, imagenet32, imagenet64

CIFAR_BATCHES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


def draw(count: int, shape=(32, 32, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def to_planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def to_png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def to_example(png: bytes, label: int) -> bytes:
    """A serialised tf.train.Example with an image and, before it, a label."""
    label_feature = _field(3, _field(1, _varint(label)))
    image_feature = _field(1, _field(1, png))
    entries = [(b"label", label_feature), (b"image", image_feature)]
    features = b"".join(_field(1, _field(1, key) + _field(2, value)) for key, value in entries)
    return _field(1, features)


def to_tfrecords(records: list[bytes]) -> bytes:
    out = b""
    for record in records:
        length = struct.pack("<Q", len(record))
        sums = [struct.pack("<I", int(masked_crc32c([part])[0])) for part in (length, record)]
        out += length + sums[0] + record + sums[1]
    return out


@dataclasses.dataclass(frozen=True)
class Published:
    """A small data set as its publishers would have made it."""

    recipe: Recipe
    path: Path
    train: np.ndarray
    test: np.ndarray


def small(recipe: Recipe, num_train: int, num_test: int) -> Recipe:
    """A published recipe that expects a small archive: counts, and no published checksum."""
    none = {"files": (), "other_files": ()}
    return dataclasses.replace(recipe, num_train=num_train, num_test=num_test, **none)


def cifar10_files(kind: str, images: np.ndarray) -> dict[str, bytes]:
    """The members of an archive of 6 batches; `images` holds them in order."""
    files = {}
    for name, batch in zip(CIFAR_BATCHES, np.array_split(images, 6), strict=True):
        rows = to_planes(batch)
        if kind == "binary":
            records = np.concatenate([np.full((len(rows), 1), 3, np.uint8), rows], axis=1)
            files[f"cifar-10-batches-bin/{name}.bin"] = records.tobytes()
        else:
            content = {b"batch_label": b"x", b"labels": [3] * len(rows), b"data": rows}
            files[f"cifar-10-batches-py/{name}"] = pickle.dumps(content, protocol=2)
    # The official archives are not in order, and hold other files as well.
    return {"cifar-10/readme.html": b"<html>", **dict(sorted(files.items(), reverse=True))}


def make_cifar10(kind: str, folder: Path) -> Published:
    images = draw(24)
    files = cifar10_files(kind, images)
    path = write_tar(folder / f"cifar-10-{kind}.tar.gz", files)
    return Published(small(cifar10.RECIPE, 20, 4), path, images[:20], images[20:])


def make_cifar10_unpacked(folder: Path) -> Published:
    made = make_cifar10("python", folder)
    with tarfile.open(made.path) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return dataclasses.replace(made, path=folder / "unpacked")


def make_old(folder: Path, recipe: Recipe = imagenet32.RECIPE_OLD) -> Published:
    shape = recipe.source.shape
    train, test = draw(7, shape, seed=1), draw(3, shape, seed=2)
    size = f"{shape[0]}x{shape[1]}"
    for name, images in ((f"train_{size}", train), (f"valid_{size}", test)):
        files = {f"{name}/{k:07d}.png": to_png(image) for k, image in enumerate(images)}
        write_tar(folder / f"{name}.tar", files, "w")
    return Published(small(recipe, 7, 3), folder, train, test)


def _batch(images: np.ndarray, kind: str) -> bytes:
    batch = {"data": to_planes(images), "mean": to_planes(images).mean(0)}
    if kind == "pickle":
        return pickle.dumps({**batch, "labels": list(range(len(images)))}, protocol=4)
    file = io.BytesIO()
    np.savez(file, **batch, labels=np.arange(len(images)))
    return file.getvalue()


def make_new(kind: str, folder: Path) -> Published:
    train, test = draw(22, seed=1), draw(3, seed=2)
    suffix, infix = (".npz", "_npz") if kind == "npz" else ("", "")
    batches = np.array_split(train, 10)
    # Ten batches, so that 10 must be put after 9 and not after 1.
    files = {
        f"Imagenet32_train{infix}/train_data_batch_{k + 1}{suffix}": _batch(batch, kind)
        for k, batch in enumerate(batches)
    }
    write_zip(folder / f"Imagenet32_train{infix}.zip", dict(sorted(files.items())))
    write_zip(folder / f"Imagenet32_val{infix}.zip", {f"val_data{suffix}": _batch(test, kind)})
    return Published(small(imagenet32.RECIPE_NEW, 22, 3), folder, train, test)


def make_tfrecords(recipe: Recipe, folder: Path) -> Published:
    train, test = draw(8, recipe.source.shape, seed=1), draw(3, recipe.source.shape, seed=2)
    version = folder / recipe.name / "3.0.2"
    version.mkdir(parents=True)
    for split, images, count in (("train", train, 2), ("validation", test, 1)):
        for k, part in enumerate(np.array_split(images, count)):
            name = f"{recipe.name}-{split}.tfrecord-{k:05d}-of-{count:05d}"
            records = [to_example(to_png(image), k) for k, image in enumerate(part)]
            (version / name).write_bytes(to_tfrecords(records))
    return Published(small(recipe, 8, 3), folder / recipe.name, train, test)


def make_fashion(compressed: bool, folder: Path) -> Published:
    train, test = draw(6, (28, 28, 1), seed=1), draw(2, (28, 28, 1), seed=2)
    for name, images in (("train", train), ("t10k", test)):
        content = struct.pack(">4I", 0x803, len(images), 28, 28) + images.tobytes()
        name = f"{name}-images-idx3-ubyte" + (".gz" if compressed else "")
        (folder / name).write_bytes(gzip.compress(content) if compressed else content)
    return Published(small(fashion_mnist.RECIPE, 6, 2), folder, train, test)


MAKERS = {
    "cifar10-binary": lambda folder: make_cifar10("binary", folder),
    "cifar10-python": lambda folder: make_cifar10("python", folder),
    "cifar10-unpacked": make_cifar10_unpacked,
    "cifar10-tfrecord": lambda folder: make_tfrecords(cifar10.RECIPE, folder),
    "imagenet32_old-tar": make_old,
    "imagenet32_old-tfrecord": lambda folder: make_tfrecords(imagenet32.RECIPE_OLD, folder),
    "imagenet64-tar": lambda folder: make_old(folder, imagenet64.RECIPE),
    "imagenet32_new-pickle": lambda folder: make_new("pickle", folder),
    "imagenet32_new-npz": lambda folder: make_new("npz", folder),
    "imagenet32_new-tfrecord": lambda folder: make_tfrecords(imagenet32.RECIPE_NEW, folder),
    "fashion_mnist-idx": lambda folder: make_fashion(False, folder),
    "fashion_mnist-gzip": lambda folder: make_fashion(True, folder),
    "fashion_mnist-tfrecord": lambda folder: make_tfrecords(fashion_mnist.RECIPE, folder),
}


@pytest.fixture
def make_published(tmp_path):
    """A function from a form's name to a small data set of that form."""

    def make(form: str) -> Published:
        folder = tmp_path / "published"
        folder.mkdir()
        return MAKERS[form](folder)

    make.forms = tuple(MAKERS)
    return make


@pytest.fixture
def archives():
    """The writers of archives, for tests that make hostile ones."""
    return Archives()


class Archives:
    tar = staticmethod(write_tar)
    zip = staticmethod(write_zip)
    tfrecords = staticmethod(to_tfrecords)
    example = staticmethod(to_example)
    png = staticmethod(to_png)
    images = staticmethod(draw)
    planes = staticmethod(to_planes)
    cifar10 = staticmethod(cifar10_files)
    small = staticmethod(small)
