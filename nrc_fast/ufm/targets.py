"""Mean and covariance of targets: all that the unconstrained feature model (UFM) asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeGuard

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import EPSILON, from_lower
from nrc_fast.kernels import calls
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.ufm.inputs import as_float64

__all__ = ["TargetMoments", "Targets", "is_measured", "target_moments"]

# Eigenvalues and their products with penalties stay float64 numbers with all their digits inside these limits.
SMALLEST_VARIANCE = 1e-280
LARGEST_VARIANCE = 1e280


class MeasuredTargets(Protocol):
    """What has added up targets: `FeatureStatistics` and the like."""

    @property
    def target_covariance(self) -> FloatArray:
        """The population covariance, (n, n)."""

    @property
    def target_mean(self) -> FloatArray:
        """The mean, (n,)."""


# What functions of the UFM take as targets.
Targets: TypeAlias = "Array | MeasuredTargets"


@dataclass(frozen=True, eq=False)
class TargetMoments:
    """Mean and covariance of targets, or of a batch of them.

    Attributes
    ----------
    covariance : (..., n, n) float64 array
        Population covariance (1/M), symmetric positive semidefinite.
    mean : (..., n) float64 array
    epsilon : float
        Rounding unit of the dtype in which the covariance was given.
    """

    covariance: FloatArray
    mean: FloatArray
    epsilon: float = EPSILON

    @property
    def n(self) -> int:
        """Number of outputs."""
        return int(self.mean.shape[-1])

    @property
    def batch(self) -> tuple[int, ...]:
        """Leading axes."""
        return self.covariance.shape[:-2]


def target_moments(
    Y: Targets | None = None, covariance: Array | None = None, mean: Array | None = None
) -> TargetMoments:
    """Moments of targets from whatever describes them.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor, or an object with `target_covariance` and `target_mean`
        The latter are `FeatureStatistics` and the like.
    covariance : (..., n, n) array or tensor
        Covariance of the targets (1/M), in place of Y.
    mean : (..., n) array or tensor, optional
        Mean of the targets, which goes with `covariance`; zeros if not given.

    Returns
    -------
    TargetMoments

    Raises
    ------
    ValueError
        Both or neither of Y and covariance; no samples; values that are not finite; a covariance that is not square,
        symmetric and positive semidefinite; variances that float64 cannot work with.
    TypeError, RuntimeError
        What is given is no array of real numbers, or lies on a device.

    Examples
    --------
    >>> moments = target_moments(np.array([[1.0, 0.0], [3.0, 0.0]]))
    >>> moments.mean.tolist(), moments.covariance.tolist()
    ([2.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    if (Y is None) == (covariance is None):
        msg = "give either the targets Y or their covariance="
        raise ValueError(msg)
    if Y is None:
        assert covariance is not None
        moments = _given_moments(covariance, mean)
    elif mean is not None:
        msg = "mean= goes with covariance=; targets have their own"
        raise ValueError(msg)
    elif is_measured(Y):
        moments = _given_moments(Y.target_covariance, Y.target_mean)
    else:
        moments = _measured_moments(Y)
    variances = np.trace(moments.covariance, axis1=-2, axis2=-1)
    if np.any((variances > LARGEST_VARIANCE) | ((variances < SMALLEST_VARIANCE) & (variances > 0.0))):
        msg = (
            f"the targets have a variance of {variances.min():.3g} to {variances.max():.3g}, outside of "
            f"{SMALLEST_VARIANCE} to {LARGEST_VARIANCE}; rescale them"
        )
        raise ValueError(msg)
    return moments


def is_measured(Y: Targets) -> TypeGuard[MeasuredTargets]:
    """Whether targets are what has added them up, and not the targets themselves."""
    return hasattr(Y, "target_covariance") and hasattr(Y, "target_mean")


def _measured_moments(Y: Targets) -> TargetMoments:
    """In two reads, the second one of what lies about the mean, found from the first row on.

    So values that are all equal have exactly zero variance.
    """
    rows = as_rows(Y, "Y", vector_is_column=True)
    if rows.count == 0:
        msg = "Y has no rows; at least one sample is expected"
        raise ValueError(msg)
    first = rows.part(0, 1).to_float64()[0]
    mean = first + calls.gram(rows, shift=first, plain=False, precision="highest").column_sums / rows.count
    lower = calls.gram(rows, shift=mean, precision="highest").gram / rows.count
    covariance = from_lower(lower)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        msg = "the squares of the targets leave the range of float64; rescale them"
        raise ValueError(msg)
    if not covariance.any() and np.any(rows.to_float64() != first):
        msg = "the squares of the targets' deviations are too small for float64; rescale them"
        raise ValueError(msg)
    return TargetMoments(covariance, mean)


def _given_moments(covariance: Array, mean: Array | None) -> TargetMoments:
    matrix, epsilon = as_float64(covariance, "covariance")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        msg = f"covariance has shape {matrix.shape}; (n, n), or (..., n, n) for a batch, is expected"
        raise ValueError(msg)
    n = matrix.shape[-1]
    transposed = np.swapaxes(matrix, -1, -2)
    largest = np.abs(matrix).max(axis=(-2, -1), initial=0.0)
    # Products in another order differ by n roundings of the largest entry, one way and the other.
    difference = np.abs(matrix - transposed).max(axis=(-2, -1), initial=0.0)
    if np.any(difference > 4 * n * epsilon * largest):
        msg = f"covariance is not symmetric: entries differ by up to {difference.max():.3g} from their mirror images"
        raise ValueError(msg)
    symmetric = 0.5 * matrix + 0.5 * transposed
    smallest = np.linalg.eigvalsh(symmetric)[..., 0]
    if np.any(smallest < -4 * n**1.5 * epsilon * largest):
        msg = f"covariance is not positive semidefinite: it has an eigenvalue of {smallest.min():.6g}"
        raise ValueError(msg)
    means = np.zeros(matrix.shape[:-1]) if mean is None else as_float64(mean, "mean")[0]
    if means.shape[-1:] != (n,):
        msg = f"mean has shape {means.shape}; ({n},) is expected, as many values as the covariance has rows"
        raise ValueError(msg)
    try:
        batch = np.broadcast_shapes(means.shape[:-1], matrix.shape[:-2])
    except ValueError:
        msg = f"mean {means.shape} and covariance {matrix.shape} differ in their leading axes"
        raise ValueError(msg) from None
    return TargetMoments(np.broadcast_to(symmetric, (*batch, n, n)), np.broadcast_to(means, (*batch, n)), epsilon)
