"""Bits per dimension of a test set under codes that need no neural network.

    python -m benchmarks.picture_baselines [fashion_mnist|photos|…] [--images=96] [--data_dir DIR]

- independent histogram: one smoothed categorical distribution per pixel and channel, counted on the
  training images;
- PNG, lossless WebP and JPEG XL: each image by itself, and one sheet of all test images, as good a
  case for them as there is: every one has the others to learn from, and headers are paid once.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measuring import markdown_table
from data.prepare import data_sets, prepare
from diffusion_ode.reporting.picture_codes import picture_codes

# Half a count for every level: the estimator of Krichevsky and Trofimov 1981.
_PSEUDO_COUNT = 0.5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", default="fashion_mnist", choices=tuple(data_sets()))
    parser.add_argument("--images", type=int, help="the first of the test set; default all")
    parser.add_argument("--data_dir", type=Path)
    flags = parser.parse_args()
    images = prepare(flags.name, data_dir=flags.data_dir)
    test = np.asarray(images.test[: flags.images])
    lengths = histogram_code_lengths(np.asarray(images.train), test, images.manifest.levels)
    error = np.std(lengths, ddof=1) / np.sqrt(len(lengths))
    rows = [["independent histogram", f"{lengths.mean():.3f} ± {error:.3f}"]]
    rows += [[name, f"{bits:.3f}"] for name, bits in picture_codes(test).items()]
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


if __name__ == "__main__":
    main()
