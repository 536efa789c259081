"""Two baselines for the digits: code lengths that need no neural network.

On the same split as the experiments (the first 1500 images train, the last 297 test):

- independent histogram: one categorical distribution per pixel, smoothed; it knows each pixel's
  marginal and nothing of its neighbours.
- autoregressive extra-trees: log P(image) = Σ log P(pixel | the pixels before it), in raster order,
  each conditional a forest of extremely randomised trees. A forest gives probability zero to levels
  it has not seen, so 7 % of the histogram is mixed in.

Both are proper distributions over the 17 levels, so their code lengths compare with a diffusion
ODE's. Run: python -m benchmarks.digits_baselines (about a minute on two cores).

Sources: Geurts, Ernst and Wehenkel 2006, "Extremely randomized trees", Machine Learning 63.
"""

import math
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier

from benchmarks.picture_baselines import histogram

LEVELS = 17
NUM_TEST = 297
SEED = 0

NUM_TREES = 150
MIN_SAMPLES_LEAF = 4
HISTOGRAM_SHARE = 0.07


def load() -> tuple[np.ndarray, np.ndarray]:
    """Training and test images as levels, int64 [n, 64]."""
    pixels = load_digits(return_X_y=True)[0].astype(np.int64)
    return pixels[:-NUM_TEST], pixels[-NUM_TEST:]


def histogram_code_length(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Gives −log2 P of every test image under the histogram, in bits [n]."""
    table = histogram(train, LEVELS)
    return -np.log2(table[np.arange(test.shape[1]), test]).sum(axis=1)


def autoregressive_code_length(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Gives −log2 P of every test image under forests and histogram mixed, in bits [n]."""
    table = histogram(train, LEVELS)
    rows = np.arange(len(test))
    bits = np.zeros(len(test))
    for pixel in range(train.shape[1]):
        marginal = table[pixel, test[:, pixel]]
        if pixel == 0 or len(np.unique(train[:, pixel])) == 1:
            bits -= np.log2(marginal)
            continue
        forest = ExtraTreesClassifier(
            NUM_TREES, min_samples_leaf=MIN_SAMPLES_LEAF, random_state=SEED, n_jobs=-1
        )
        forest.fit(train[:, :pixel], train[:, pixel])
        seen = np.zeros((len(test), LEVELS))
        seen[:, forest.classes_] = forest.predict_proba(test[:, :pixel])
        conditional = seen[rows, test[:, pixel]]
        bits -= np.log2((1.0 - HISTOGRAM_SHARE) * conditional + HISTOGRAM_SHARE * marginal)
    return bits


def main() -> None:
    """Print both code lengths in bits per dimension, with their standard errors over images."""
    train, test = load()
    print(f"digits, {len(train)} training and {len(test)} test images, {LEVELS} levels\n")
    print(f"{'baseline':<28}{'bits per dimension':>20}{'± over images':>16}{'seconds':>10}")
    for name, code_length in (
        ("independent histogram", histogram_code_length),
        ("autoregressive extra-trees", autoregressive_code_length),
    ):
        start = time.perf_counter()
        bits = code_length(train, test) / test.shape[1]
        error = bits.std(ddof=1) / math.sqrt(len(bits))
        seconds = time.perf_counter() - start
        print(f"{name:<28}{bits.mean():>20.4f}{error:>16.4f}{seconds:>10.1f}")


if __name__ == "__main__":
    main()
