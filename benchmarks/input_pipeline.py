"""How fast batches come: the pipeline beside Grain's DataLoader, which reads item by item.

    python benchmarks/input_pipeline.py

Prints a markdown table: images per second that each can deliver, and the share of its time in which
the device waits for input, with a step that leaves the processor free (a sleep stands for an
accelerator) and takes 20 ms for a batch of 128: as fast as an H100's bfloat16 peak could
ever train the smallest published network (about 50 GFLOP per image forward, three times that with
the gradient, 20 TFLOP per batch).
"""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from data.augmentation import FlipRotate
from data.pipeline import Data
from data.source import ImageData, Manifest, SplitFacts

BATCH_SIZE = 128
SECONDS = 4.0
STEP_SECONDS = 0.02
NUM_STEPS = 150


@dataclasses.dataclass(frozen=True)
class Case:
    """Arrays of a data set's number and shape."""

    name: str
    count: int
    shape: tuple[int, int, int]


CASES = (
    Case("CIFAR-10", 50_000, (32, 32, 3)),
    Case("ImageNet32", 1_281_167, (32, 32, 3)),
    Case("Fashion-MNIST", 60_000, (28, 28, 1)),
    Case("photos", 20_056, (32, 32, 3)),
    Case("photos_16", 84_430, (16, 16, 3)),
    Case("digits", 1500, (8, 8, 1)),
)


class Made:
    """The source of a case's images."""

    name, levels = "made", 256

    def __init__(self, case: Case):
        self.shape = case.shape

    def load(self, data_dir: Path | None = None) -> ImageData:
        raise NotImplementedError("the images are made beforehand")


def make(case: Case, folder: Path) -> ImageData:
    """Memory-mapped images of a data set's number and shape."""
    path = folder / f"{case.name}.npy"
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (case.count, *case.shape))
    block = np.random.default_rng(0).integers(
        0, 256, (min(10_000, case.count), *case.shape), np.uint8
    )
    for start in range(0, case.count, len(block)):
        images[start : start + len(block)] = block[: case.count - start]
    images.flush()
    mapped = np.load(path, mmap_mode="r")
    facts = SplitFacts(case.count, "sha256:made")
    return ImageData(Manifest(case.name, case.shape, 256, facts, facts), mapped, mapped)


class Items:
    """What a DataLoader reads: one image per item."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        return {"image": np.asarray(self._images[index]), "index": index}


def data_loader(images: ImageData, workers: int) -> Iterator[dict[str, Any]]:
    return iter(
        grain.DataLoader(
            data_source=Items(images.train),
            sampler=grain.samplers.IndexSampler(
                len(images.train), shard_options=grain.sharding.NoSharding(), shuffle=True, seed=0
            ),
            operations=[grain.transforms.Batch(BATCH_SIZE, drop_remainder=True)],
            worker_count=workers,
        )
    )


def images_per_second(batches: Iterator[Any]) -> float:
    for _ in range(5):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        next(batches)
        count += BATCH_SIZE
    return count / (time.perf_counter() - start)


class SleepingDevice:
    """Stands for an accelerator: a step begins when it is given, or when the one before ends."""

    def __init__(self):
        self.idle = 0.0
        self._free = time.perf_counter()

    def start(self) -> None:
        """Begins a step, as an asynchronous dispatch does: at once for the host."""
        now = time.perf_counter()
        self.idle += max(now - self._free, 0.0)
        self._free = max(now, self._free) + STEP_SECONDS

    def wait(self, under_way: float) -> None:
        """Returns once at most so much work is left."""
        time.sleep(max(self._free - under_way - time.perf_counter(), 0.0))


def share_waiting(batches: Iterator[Any]) -> float:
    """The share of the time in which the device has nothing to do.

    The host does as `TrainLoop` does: one step is under way while it fetches the next batch.
    """
    for _ in range(5):
        next(batches)
    device, start = SleepingDevice(), time.perf_counter()
    for _ in range(NUM_STEPS):
        next(batches)
        device.start()
        device.wait(under_way=STEP_SECONDS)
    return device.idle / (time.perf_counter() - start)


def readers(case: Case) -> dict[str, Callable[[ImageData], Iterator[Any]]]:
    """What is set side by side for such images."""

    def pipeline(augmentation: FlipRotate | None):
        source = Made(case)
        return lambda images: Data(source, augmentation).train_batches(
            images, batch_size=BATCH_SIZE, seed=0
        )

    found = {
        "pipeline": pipeline(None),
        "Grain DataLoader, item by item": lambda images: data_loader(images, 0),
    }
    if case.shape[-1] == 3:
        found["pipeline, flips, turns, channels"] = pipeline(FlipRotate(permute_channels=True))
    return found


def main() -> None:
    print(f"{os.cpu_count()} cores, batches of {BATCH_SIZE}\n")
    print(
        f"| arrays | reader | images/s | device waiting, at {STEP_SECONDS * 1000:.0f} ms a step |"
    )
    print("|---|---|---:|---:|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            images = make(case, Path(folder))
            for name, maker in readers(case).items():
                speed = images_per_second(maker(images))
                share = share_waiting(maker(images))
                print(f"| {case.name} | {name} | {speed:,.0f} | {share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
