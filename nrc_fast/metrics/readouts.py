"""The least error of an affine readout of the targets from the features, with its bound.

Covariances are population moments (1/N): features (d, d), targets (n, n), and the cross covariance (d, n). Bounds are
of the first order in the errors of the moments that they are given, and no better than these.
"""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.base.symmetric import Symmetric, as_symmetric
from nrc_fast.metrics.rounding import decomposition_rounding

__all__ = [
    "exceeds",
    "linear_readout_error",
    "loaded_readout_error",
    "readout_bound",
    "regularized_readout_bound",
    "regularized_readout_error",
]

# Each takes the share floor/(lambda + floor) from what the solves before have left of a direction.
REGULARIZED_SOLVES = 4


def linear_readout_error(
    eigenvalues: FloatArray,
    eigenvectors: FloatArray,
    target_covariance: FloatArray,
    cross_covariance: FloatArray,
) -> float:
    """Least mean squared error of an affine readout of the targets, summed over the outputs.

    ``min over A, a of (1/N) sum |A h + a - y|^2 = tr C_yy - sum_j |v_j^T C_hy|^2 / lambda_j``, over the
    eigenpairs of the feature covariance with ``lambda_j > d * eps * lambda_1``. It is a difference of
    moments: what is below about ``d * eps * tr C_yy`` is noise.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Eigenvalues of the feature covariance.
    eigenvectors : (d, d) float64 array
        Eigenvectors of the feature covariance in the columns, in the order of `eigenvalues`.
    target_covariance : (n, n) float64 array
    cross_covariance : (d, n) float64 array

    Returns
    -------
    float
        Never negative.

    References
    ----------
    arXiv 2603.23805, NRC4, with an intercept.

    Examples
    --------
    >>> round(linear_readout_error(np.array([4.0, 1.0]), np.eye(2), np.eye(1), np.array([[1.0], [0.5]])), 12)
    0.5
    """
    return loaded_readout_error(eigenvalues, eigenvectors.T @ cross_covariance, target_covariance)


def loaded_readout_error(eigenvalues: FloatArray, loadings: FloatArray, target_covariance: FloatArray) -> float:
    """As `linear_readout_error`, from the products of all eigenvectors with the cross covariance, (d, n)."""
    kept = eigenvalues > len(eigenvalues) * EPSILON * np.max(eigenvalues)
    explained = loadings[kept] / np.sqrt(eigenvalues[kept])[:, np.newaxis]
    return max(float(np.trace(target_covariance) - np.sum(explained**2)), 0.0)


def readout_bound(
    value: float,
    eigenvalues: FloatArray,
    loadings: FloatArray,
    variance: float,
    errors: tuple[float, float],
) -> float:
    """Bound of the least error of a linear readout.

    With the readout A it explains ``tr A C_hy``, which changes by ``-tr A dC_hh A^T + 2 tr A dC_hy`` where the
    covariances are a little off; the feature covariance by the rounding of its decomposition besides.

    Parameters
    ----------
    value : float
        The error that is bounded.
    eigenvalues : (d,) float64 array
        Eigenvalues of the feature covariance; 0 for directions that are not read from.
    loadings : (d,) float64 array
        ``|v^T C_hy|``.
    variance : float
        Variance of the targets.
    errors : pair of float
        Errors of the feature covariance and of the cross covariance, in Frobenius norm.
    """
    kept = eigenvalues > 0.0
    slope = float(np.linalg.norm(loadings[kept] / eigenvalues[kept]))
    off = errors[0] + decomposition_rounding(len(eigenvalues)) * float(np.max(eigenvalues, initial=0.0))
    bound = min(slope**2 * off + 2.0 * slope * errors[1] + 16.0 * EPSILON * variance, variance)
    # What the other directions could explain is not known: the truth may be anywhere below the value.
    return bound if kept.all() else max(bound, value)


def regularized_readout_error(
    feature_covariance: Symmetric,
    target_covariance: FloatArray,
    cross_covariance: FloatArray,
    floor: float,
    *,
    single_precision: bool = False,
) -> tuple[float, float]:
    """Least error of an affine readout as `linear_readout_error` gives it, without a spectrum, and the readout's norm.

    Directions whose variance is far below a floor count for nothing, and those far above it in full: with
    ``(1 - (floor/(lambda + floor))^4) / lambda`` in place of ``1/lambda``, which four solves with one Cholesky factor
    of ``C + floor I`` give (iterated Tikhonov regularisation).

    Parameters
    ----------
    feature_covariance : (d, d) float64 array
        Both triangles filled.
    target_covariance : (n, n) float64 array
    cross_covariance : (d, n) float64 array
    floor : float
        Variance that cannot be told from rounding.
    single_precision : bool
        Factor in float32, for a floor far above the rounding of that: each solve makes good what the factor is off by.

    Returns
    -------
    error : float
        Never negative.
    slope : float
        Frobenius norm of the readout.

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``C + floor I`` is not positive definite: the floor is too low.

    Examples
    --------
    >>> error, slope = regularized_readout_error(np.diag([4.0, 1.0]), np.eye(1), np.array([[1.0], [0.5]]), 1e-9)
    >>> round(error, 12), round(slope**2, 8)
    (0.5, 0.3125)
    """
    covariance = as_symmetric(feature_covariance)
    solved = covariance.solver(floor, single_precision=single_precision)
    if solved is None and single_precision:
        solved = covariance.solver(floor, single_precision=False)
    if solved is None:
        msg = f"C + {floor:.3g} I is not positive definite"
        raise np.linalg.LinAlgError(msg)
    readout = np.zeros_like(cross_covariance)
    for _ in range(REGULARIZED_SOLVES):
        readout += solved(cross_covariance - covariance.products(np.ascontiguousarray(readout.T)).T)
    explained = float(np.sum(cross_covariance * readout))
    return max(float(np.trace(target_covariance)) - explained, 0.0), float(np.linalg.norm(readout))


def regularized_readout_bound(
    value: float, slope: float, variance: float, d: int, *, floor: float, errors: tuple[float, float], is_resolved: bool
) -> float:
    """Bound of an error that `regularized_readout_error` gave.

    Parameters
    ----------
    value, slope
        What it gave.
    variance : float
        Variance of the targets.
    d : int
    floor : float
    errors : pair of float
        Errors of the feature covariance and of the cross covariance.
    is_resolved : bool
        Whether every direction has more variance than the floor; else what others could explain is not known, and the
        truth may be anywhere below the value.
    """
    total = slope**2 * (errors[0] + floor) + 2.0 * slope * errors[1] + 4.0 * d * EPSILON * variance
    bound = min(total, variance)
    return bound if is_resolved else max(bound, value)


def exceeds(covariance: Symmetric, floor: float, *, single_precision: bool = False) -> bool:
    """Whether every direction has more variance than a floor: ``C - floor I`` has a Cholesky factor.

    Examples
    --------
    >>> exceeds(np.diag([2.0, 1.0]), 0.5), exceeds(np.diag([2.0, 1.0]), 1.5)
    (True, False)
    """
    return as_symmetric(covariance).solver(-floor, single_precision=single_precision) is not None
