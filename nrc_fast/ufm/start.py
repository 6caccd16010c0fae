"""Where gradient descent on the UFM starts: the moments of ``Z = [H0, Y, 1]``, given or drawn.

Descent needs of the starting features H0 only how they correlate with one another, with the targets and with 1. For
Gaussian H0 these moments are drawn directly, at a cost that does not depend on the number of samples M: the part of
H0 in the span of 1 and the targets is a few Gaussian rows, and the Gram of the rest is a Wishart matrix, whose
triangular root has chi-distributed and Gaussian entries (Bartlett). Features with just these moments are made when
they are asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nrc_fast import kernels
from nrc_fast.linalg import FloatArray, covariance_spectrum
from nrc_fast.rows import Rows
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["DrawnStart", "GivenStart", "as_seeds", "draw_start", "given_start"]


@dataclass(frozen=True, eq=False)
class GivenStart:
    """Features that the user gave."""

    moments: FloatArray  # (d + n + 1, d + n + 1)
    features: Rows

    def rows(self, targets: FloatArray) -> FloatArray:
        """H0, (M, d)."""
        del targets
        return self.features.to_float64()


@dataclass(frozen=True, eq=False)
class DrawnStart:
    """Gaussian features, known by their part along 1 and the targets and by a root of the Gram of the rest."""

    moments: FloatArray
    along: FloatArray  # (1 + rank, d)
    root: FloatArray  # (min(M - 1 - rank, d), d)
    directions: FloatArray  # (n, rank), of the targets
    values: FloatArray  # (rank,)
    seed: int

    def rows(self, targets: FloatArray) -> FloatArray:
        """Features H0 with these moments, (M, d): the same ones for the same seed and targets."""
        samples = len(targets)
        deviations = (targets - targets.mean(axis=0)) @ self.directions / np.sqrt(self.values)
        span = np.column_stack([np.ones(samples), deviations]) / math.sqrt(samples)
        noise = np.random.default_rng([self.seed, 1]).standard_normal((samples, len(self.root)))
        for _ in range(2):  # twice is enough
            noise -= span @ (span.T @ noise)
        basis, triangle = np.linalg.qr(noise)
        basis *= np.where(np.diagonal(triangle) < 0.0, -1.0, 1.0)
        return np.asarray(span @ self.along + basis @ self.root)


def given_start(features: Rows, targets: Rows, moments: TargetMoments) -> GivenStart:
    """Moments of features that the user gave, in one read.

    Raises
    ------
    ValueError
        Rows are not finite, or are not as many as the targets.
    """
    if features.count != targets.count:
        msg = f"features has {features.count} rows and Y has {targets.count}; one for each sample is expected"
        raise ValueError(msg)
    sums = kernels.gram(features, targets=targets, precision="highest")
    gram = (np.tril(sums.gram) + np.tril(sums.gram, -1).T) / features.count
    cross, means = sums.cross / features.count, sums.column_sums / features.count
    return GivenStart(_assembled(gram, cross, means, moments), features)


def draw_start(seed: int, moments: TargetMoments, samples: int, d: int, scale: float) -> tuple[DrawnStart, FloatArray]:
    """Gaussian features of standard deviation `scale`, and Gaussian weights of standard deviation 1, (n, d)."""
    rng = np.random.default_rng(seed)
    n = moments.n
    weights = rng.standard_normal((n, d))
    along = scale * rng.standard_normal((1 + n, d))
    values, vectors = covariance_spectrum(moments.covariance, moments.epsilon)
    rank = min(int(np.count_nonzero(values)), samples - 1)
    values, vectors, along = values[:rank], vectors[:, :rank], along[: 1 + rank]
    root = scale * _wishart_root(rng, samples - 1 - rank, d)
    # 1 and the targets along the orthonormal rows that `along` belongs to, over sqrt(M).
    targets = np.column_stack([moments.mean, vectors * np.sqrt(values)])
    gram = (along.T @ along + root.T @ root) / samples
    cross, means = targets @ along / math.sqrt(samples), along[0] / math.sqrt(samples)
    return DrawnStart(_assembled(gram, cross, means, moments), along, root, vectors, values, seed), weights


def _wishart_root(rng: np.random.Generator, freedom: int, d: int) -> FloatArray:
    """R of the QR decomposition of a Gaussian matrix of `freedom` rows, without drawing that matrix."""
    if freedom <= d:
        noise = rng.standard_normal((freedom, d))
        return np.asarray(np.linalg.qr(noise)[1]) if freedom else noise
    root = np.triu(rng.standard_normal((d, d)), 1)
    root[range(d), range(d)] = np.sqrt(rng.chisquare(freedom - np.arange(d)))
    return np.asarray(root)


def _assembled(gram: FloatArray, cross: FloatArray, means: FloatArray, moments: TargetMoments) -> FloatArray:
    """``Z^T Z / M`` of ``Z = [H0, Y, 1]`` from its blocks."""
    mean = moments.mean[:, np.newaxis]
    second = moments.covariance + mean * mean.T
    column = means[:, np.newaxis]
    return np.block([[gram, cross.T, column], [cross, second, mean], [column.T, mean.T, np.ones((1, 1))]])


def as_seeds(seed: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Seeds as an array of integers.

    Raises
    ------
    TypeError, ValueError
        They are no integers, or negative.

    Examples
    --------
    >>> as_seeds([3, 4]).tolist()
    [3, 4]
    """
    array = np.asarray(seed)
    if array.dtype.kind not in "iu":
        msg = f"seed has dtype {array.dtype}; integers are expected"
        raise TypeError(msg)
    if np.any(array < 0):
        msg = f"seed must not be negative, got {array.min()}"
        raise ValueError(msg)
    return array.astype(np.int64)
