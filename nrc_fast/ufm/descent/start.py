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
from typing import Protocol, TypeAlias, TypeGuard

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, IntArray
from nrc_fast.base.linalg import covariance_spectrum
from nrc_fast.kernels.samples import Reader, joint_moments, sample_reader
from nrc_fast.ufm.inputs import as_float64
from nrc_fast.ufm.targets import TargetMoments, Targets

__all__ = [
    "DrawnStart",
    "GivenStart",
    "StartFeatures",
    "as_seeds",
    "draw_start",
    "given_start",
    "has_moments",
    "start_of_moments",
]


class MeasuredFeatures(Protocol):
    """What has added up features: `nrc_fast.FeatureStatistics` and the like."""

    @property
    def mean(self) -> FloatArray:
        """The mean, (d,)."""

    @property
    def covariance(self) -> FloatArray:
        """The population covariance, (d, d)."""

    @property
    def cross_covariance(self) -> FloatArray:
        """The population covariance with the targets, (d, n)."""


# Features that a descent may start from.
StartFeatures: TypeAlias = "Array | MeasuredFeatures"


@dataclass(frozen=True, eq=False)
class GivenStart:
    """Features that the user gave."""

    moments: FloatArray  # K = Z^T Z/M, (D, D) with D = d + n + 1
    plain: FloatArray  # C with C^T C = K, (D, D)
    centered: FloatArray  # C with C^T C the centred K, (D, D)
    features: Reader | None  # None: only their moments

    def rows(self, targets: FloatArray) -> FloatArray:
        """H0, (M, d).

        Raises
        ------
        ValueError
            Only their moments were given.
        """
        del targets
        if self.features is None:
            msg = "descent started from moments of the features; to have features give them, or let them be drawn"
            raise ValueError(msg)
        return self.features()


@dataclass(frozen=True, eq=False)
class DrawnStart:
    """Gaussian features, known by their part along 1 and the targets and by a root of the Gram of the rest."""

    moments: FloatArray  # K = Z^T Z/M, (D, D) with D = d + n + 1
    plain: FloatArray  # C with C^T C = K, (D, D)
    centered: FloatArray  # C with C^T C the centred K, (D, D)
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


def has_moments(features: StartFeatures) -> TypeGuard[MeasuredFeatures]:
    """Whether features are what has added them up, and not the features themselves."""
    return all(hasattr(features, name) for name in ("mean", "covariance", "cross_covariance"))


def given_start(features: StartFeatures, targets: Targets, moments: TargetMoments) -> GivenStart:
    """A start from features that the user gave, and the targets that they belong to.

    Raises
    ------
    ValueError
        Features or targets are not finite, are no matrices, or differ in their number of rows.
    TypeError, RuntimeError
        The features are no array of floating-point numbers, or lie on a device.
    """
    found = joint_moments(features, targets, moments.mean)
    reader = sample_reader(features, "features")
    return _from_moments(found.covariance, found.cross_covariance, found.mean, moments, reader)


def start_of_moments(statistics: MeasuredFeatures, moments: TargetMoments) -> GivenStart:
    """A start from the moments of features: `mean`, `covariance` and `cross_covariance`.

    Raises
    ------
    ValueError
        Shapes do not fit together, or no features and targets can have these moments.
    """
    mean, _ = as_float64(statistics.mean, "features.mean")
    covariance, epsilon = as_float64(statistics.covariance, "features.covariance")
    cross, _ = as_float64(statistics.cross_covariance, "features.cross_covariance")
    d, n = mean.size, moments.n
    if moments.batch:
        msg = "moments of the features go with one covariance of the targets, not with a batch"
        raise ValueError(msg)
    if mean.shape != (d,) or covariance.shape != (d, d) or cross.shape != (d, n):
        msg = (
            f"the moments of the features have shapes {mean.shape}, {covariance.shape} and {cross.shape}; "
            f"(d,), (d, d) and (d, {n}) are expected"
        )
        raise ValueError(msg)
    joint = np.block([[covariance, cross], [cross.T, moments.covariance]])
    sizes = np.sqrt(np.maximum(np.diagonal(joint), 0.0))
    sizes = np.where(sizes > 0.0, sizes, 1.0)
    smallest = float(np.linalg.eigvalsh(joint / np.outer(sizes, sizes))[0])
    if smallest < -8 * (d + n) ** 1.5 * max(epsilon, moments.epsilon):
        msg = f"no features and targets have these moments: their correlations have an eigenvalue of {smallest:.3g}"
        raise ValueError(msg)
    return _from_moments(covariance, cross, mean, moments, None)


def _from_moments(
    covariance: FloatArray, cross: FloatArray, mean: FloatArray, moments: TargetMoments, features: Reader | None
) -> GivenStart:
    """A start from the covariance of the features, (d, d), theirs with the targets, (d, n), and their mean, (d,)."""
    joint = np.block([[covariance, cross], [cross.T, moments.covariance]])
    used = len(joint) + 1
    centered: FloatArray = np.zeros((used, used))
    centered[:-1, :-1] = _root(joint)  # 1 has no variance
    plain = centered.copy()
    plain[-1] = np.concatenate([mean, moments.mean, [1.0]])
    second = np.outer(plain[-1], plain[-1])
    second[:-1, :-1] += joint
    return GivenStart(second, plain, centered, features)


def _root(joint: FloatArray) -> FloatArray:
    """C with ``C^T C`` equal to a matrix, to rounding of every entry relative to its own row and column."""
    sizes = np.sqrt(np.maximum(np.diagonal(joint), 0.0))
    divisors = np.where(sizes > 0.0, sizes, 1.0)
    values, vectors = np.linalg.eigh(joint / np.outer(divisors, divisors))
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, np.newaxis] * vectors.T * sizes)


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
    # Z/sqrt(M) along orthonormal rows: 1, the directions of the targets, and what the rest of H0 spans.
    used = d + n + 1
    plain: FloatArray = np.zeros((used, used))
    plain[: 1 + rank, :d] = along / math.sqrt(samples)
    plain[0, d:-1] = moments.mean
    plain[1 : 1 + rank, d:-1] = np.sqrt(values)[:, np.newaxis] * vectors.T
    plain[0, -1] = 1.0
    plain[1 + rank : 1 + rank + len(root), :d] = root / math.sqrt(samples)
    centered = plain.copy()
    centered[0] = 0.0
    start = DrawnStart(
        moments=plain.T @ plain,
        plain=plain,
        centered=centered,
        along=along,
        root=root,
        directions=vectors,
        values=values,
        seed=seed,
    )
    return start, weights


def _wishart_root(rng: np.random.Generator, freedom: int, d: int) -> FloatArray:
    """R of the QR decomposition of a Gaussian matrix of `freedom` rows, without drawing that matrix."""
    if freedom <= d:
        noise = rng.standard_normal((freedom, d))
        return np.asarray(np.linalg.qr(noise)[1]) if freedom else noise
    root = np.triu(rng.standard_normal((d, d)), 1)
    root[range(d), range(d)] = np.sqrt(rng.chisquare(freedom - np.arange(d)))
    return np.asarray(root)


def as_seeds(seed: Array) -> IntArray:
    """Seeds as an array of integers.

    Raises
    ------
    TypeError
        They are no integers.
    ValueError
        One is negative.

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
