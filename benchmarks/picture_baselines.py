"""Bits per dimension of a test set under codes that need no neural network.

    python -m benchmarks.picture_baselines [fashion_mnist|photos|…] [--data_dir DIR]

- independent histogram: one smoothed categorical distribution per pixel and channel, counted on the
  training images;
- PNG and lossless WebP: the size of one sheet of all test images side by side, as good a case for
  them as there is: every one has the others to learn from, and headers are paid once.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import markdown_table
from data.prepare import NAMES, prepare

# Half a count for every level: the estimator of Krichevsky and Trofimov 1981.
_PSEUDO_COUNT = 0.5
# WebP's limit is 16 383 pixels a side.
_COLUMNS = 100


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", default="fashion_mnist", choices=NAMES)
    parser.add_argument("--data_dir", type=Path)
    flags = parser.parse_args()
    images = prepare(flags.name, data_dir=flags.data_dir)
    test = np.asarray(images.test)
    lengths = histogram_code_lengths(np.asarray(images.train), test, images.manifest.levels)
    error = np.std(lengths, ddof=1) / np.sqrt(len(lengths))
    rows = [["independent histogram", f"{lengths.mean():.3f} ± {error:.3f}"]]
    for name, options in (("PNG", {"optimize": True}), ("WebP", {"lossless": True, "method": 4})):
        rows.append([f"{name}, one sheet", f"{sheet_bits(test, name, **options):.3f}"])
    print(f"{flags.name}: {len(test)} test images, fingerprint {images.fingerprint}\n")
    print(markdown_table(["code", "bits per dimension"], rows))


def histogram_code_lengths(train: np.ndarray, test: np.ndarray, levels: int) -> np.ndarray:
    """Bits per dimension [n] of each test image; images uint8 [m or n, h, w, c]."""
    train, test = (images.reshape(len(images), -1) for images in (train, test))
    return -np.log2(histogram(train, levels)[np.arange(test.shape[1]), test]).mean(axis=1)


def histogram(train: np.ndarray, levels: int) -> np.ndarray:
    """The probability of each level in every pixel, [d, levels], of images [n, d], smoothed."""
    counts = np.stack([np.bincount(column, minlength=levels) for column in train.T])
    smoothed = counts + _PSEUDO_COUNT
    return smoothed / smoothed.sum(axis=1, keepdims=True)


def sheet_bits(images: np.ndarray, form: str, **options) -> float:
    """Bits per dimension of all images [n, h, w, c] in one picture file."""
    n, height, width, channels = images.shape
    columns = min(_COLUMNS, n)
    whole = images[: n - n % columns]
    sheet = whole.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(-1, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(file, form, **options)
    return 8 * len(file.getvalue()) / sheet.size


if __name__ == "__main__":
    main()
