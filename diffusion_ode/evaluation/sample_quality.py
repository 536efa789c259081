"""What features of drawn images say of their quality, beside those of real ones.

All of it is NumPy in double precision on features [n, d] of any network; figures of papers are of
Inception v3's 2048, of 50 000 images.
"""

import itertools
from typing import NamedTuple

import numpy as np

from diffusion_ode.errors import UserError

_SEED = 2020  # torch-fidelity's, so that both draw the same subsets and splits
_SUBSETS, _SUBSET_SIZE = 100, 1000
_SPLITS = 10
_NEIGHBOUR = 3
_ROWS = 1024  # of distances that are held at once


class Statistics(NamedTuple):
    """Mean [d] and covariance [d, d] of features."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Statistics":
        """Of features [n, d], n > 1; the covariance is divided by n − 1."""
        double = np.asarray(features, np.float64)
        return cls(double.mean(0), np.atleast_2d(np.cov(double, rowvar=False)))


class WithSpread(NamedTuple):
    """A mean over parts, and the standard deviation over them; None if each is a whole set."""

    mean: float
    deviation: float | None


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|μ_a − μ_b|² + tr(C_a + C_b − 2 (C_a C_b)^½), of Gaussians with these moments: FID.

    The trace of the root is that of the symmetric (S C_b S)^½ with S = C_a^½.

    Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b.covariance @ root)
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    difference = a.mean - b.mean
    cross = np.sqrt(np.maximum(inner, 0.0)).sum()
    return float(max(difference @ difference + traces - 2.0 * cross, 0.0))


def kernel_distance(drawn: np.ndarray, real: np.ndarray) -> WithSpread:
    """The unbiased squared MMD under (x·y / d + 1)³, over 100 subsets: KID.

    Args:
      drawn, real: features [n, d], [m, d]; of 1000 or fewer the subsets have all of one set, and no
        spread is told.

    Source: Bińkowski et al. 2018, arXiv:1801.01401, section 4.
    """
    size = min(_SUBSET_SIZE, len(drawn), len(real))
    spreads = size < min(len(drawn), len(real))  # else each subset has all of one set
    generator, found = np.random.RandomState(_SEED), []
    for _ in range(_SUBSETS):
        x = drawn[generator.choice(len(drawn), size, replace=False)].astype(np.float64)
        y = real[generator.choice(len(real), size, replace=False)].astype(np.float64)
        pairs = size * (size - 1)
        within = sum((kernel.sum() - np.trace(kernel)) / pairs for kernel in map(_kernel, (x, y)))
        found.append(within - 2.0 * _kernel(x, y).mean())
    return WithSpread(float(np.mean(found)), float(np.std(found)) if spreads else None)


def _kernel(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    return (x @ (x if y is None else y).T / x.shape[1] + 1.0) ** 3


def inception_score(logits: np.ndarray) -> WithSpread:
    """exp E KL(p(class | image) ‖ p(class)), over ten parts of the images.

    Args:
      logits: [n, classes] of the drawn images.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 4.
    """
    order = np.random.RandomState(_SEED).permutation(len(logits))
    shifted = logits[order].astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    splits = min(_SPLITS, len(logits))
    ends = [i * len(logits) // splits for i in range(splits + 1)]
    scores = []
    for begin, end in itertools.pairwise(ends):
        p = np.exp(log_p[begin:end])
        # A class whose every probability underflows contributes nothing.
        log_q = np.log(np.maximum(p.mean(0), np.finfo(np.float64).tiny))
        scores.append(np.exp((p * (log_p[begin:end] - log_q)).sum(1).mean()))
    return WithSpread(float(np.mean(scores)), float(np.std(scores)))


def precision_and_recall(drawn: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """The share of drawn features among the real ones, and of real ones among the drawn ones.

    A feature is among others if it is no further from one of them than that one's third neighbour.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, section 3.
    """
    if min(len(drawn), len(real)) <= _NEIGHBOUR:
        raise UserError(
            f"Precision and recall look at the third neighbour, and there are {len(drawn)} drawn"
            f" and {len(real)} real images: give at least {_NEIGHBOUR + 1} of each."
        )
    return _share_among(drawn, real), _share_among(real, drawn)


def _share_among(some: np.ndarray, others: np.ndarray) -> float:
    radii = np.concatenate(
        [
            np.partition(rows, _NEIGHBOUR, axis=1)[:, _NEIGHBOUR]
            for rows in _distances(others, others)
        ]
    )
    return float(
        np.concatenate([(rows <= radii).any(1) for rows in _distances(some, others)]).mean()
    )


def _distances(some: np.ndarray, others: np.ndarray):
    """Squared distances [≤ 1024, m] of so many of `some` at a time to all of the others."""
    b = others.astype(np.float64)
    for begin in range(0, len(some), _ROWS):
        a = some[begin : begin + _ROWS].astype(np.float64)
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2.0 * a @ b.T
        yield np.maximum(squared, 0.0)
