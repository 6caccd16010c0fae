"""What a spectrum says: shares of the variance, effective and stable rank, each with its bound.

A bound holds the rounding of the decomposition that the eigenvalues come from, beside the error of its matrix. What
follows from an error of a matrix is certified (Weyl; Fannes and Audenaert); that of the decomposition is probable:
it is taken to grow like the root of d.
"""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.rounding import decomposition_rounding

__all__ = [
    "effective_rank",
    "effective_rank_bound",
    "explained_variance_ratio",
    "share_bounds",
    "stable_rank",
    "stable_rank_bound",
    "stable_rank_from_norm",
    "tail_bound",
]

# Error of shares up to which ``-x log x`` rises up to three times it.
LARGEST_SHARE_ERROR = 0.1


def share_bounds(eigenvalues: FloatArray, matrix_error: float, *, trace: float | None = None) -> FloatArray:
    """Bounds of the shares ``lambda_k / sum lambda`` when the matrix is off by `matrix_error` in norm.

    Weyl: no eigenvalue is off by more; the trace, a sum of squares, is not either.

    Parameters
    ----------
    eigenvalues : (m,) float64 array
    matrix_error : float
    trace : float, optional
        Of the matrix; the sum of the eigenvalues where these are all.

    Returns
    -------
    (m,) float64 array
        At most 1; NaN for zero variance.
    """
    trace = float(eigenvalues.sum()) if trace is None else trace
    if not trace > 0.0:
        return np.full(len(eigenvalues), math.nan)
    error = _eigenvalue_error(eigenvalues, matrix_error)
    shares: FloatArray = np.minimum(error / trace * (1.0 + eigenvalues / trace), 1.0)
    return shares


def _eigenvalue_error(eigenvalues: FloatArray, matrix_error: float) -> float:
    """Bound of the error of every eigenvalue: that of the matrix, and the rounding of its decomposition."""
    return matrix_error + decomposition_rounding(len(eigenvalues)) * float(np.max(eigenvalues, initial=0.0))


def tail_bound(eigenvalues: FloatArray, k: int, matrix_error: float) -> float:
    """Bound of the share of all but the leading k eigenvalues: the trace less k of them, each off by that much."""
    trace = float(eigenvalues.sum())
    if not trace > 0.0:
        return math.nan
    if k >= len(eigenvalues):
        return 0.0
    share = float(eigenvalues[k:].sum()) / trace
    error = _eigenvalue_error(eigenvalues, matrix_error)
    return min((1.0 + k + share) * error / trace + 4.0 * EPSILON * share, 1.0)


def stable_rank_bound(value: float, largest: float, d: int, matrix_error: float) -> float:
    """Bound of ``sum lambda^2 / lambda_1^2``, the square of the ratio of two norms.

    The eigenvalues together are off by no more than the matrix in Frobenius norm (Hoffman and Wielandt).

    Parameters
    ----------
    value : float
        The stable rank that is bounded.
    largest : float
        The largest eigenvalue.
    d : int
        How many there are.
    matrix_error : float
        How far the matrix is off in Frobenius norm.
    """
    error = matrix_error + decomposition_rounding(d) * largest
    if not largest > error:
        return math.nan
    # Of |lambda|/lambda_1: of the numerator and of the denominator.
    ratio = math.sqrt(value)
    off = (1.0 + ratio) * error / (largest - error)
    return min((2.0 * ratio + off) * off, float(d))


def effective_rank_bound(value: float, eigenvalues: FloatArray, matrix_error: float) -> float:
    """Bound of exp(entropy) when the matrix is off by `matrix_error` in Frobenius norm.

    The shares p are together off by some e in norm (Hoffman and Wielandt), as the trace is by no more than the matrix.
    ``h(p) = -p log p`` of one changes by at most e times its steepest slope between p - e and p + e, and all of them
    together by at most e times the norm of these slopes. Where p is no larger than 2 e, h changes by no more than h of
    the error of p, as it is concave: m of them by ``m h(e / sqrt(m))``.
    """
    d, trace = len(eigenvalues), float(eigenvalues.sum())
    if not trace > 0.0:
        return math.nan
    if d == 1:
        return 0.0
    shares = eigenvalues / trace
    off = (matrix_error + decomposition_rounding(d) * float(np.max(eigenvalues))) / trace
    if off > LARGEST_SHARE_ERROR:
        return float(d)
    off *= (1.0 + float(np.linalg.norm(shares))) / (1.0 - off)
    clear = shares > 2.0 * off
    slopes = 1.0 + np.abs(np.log(np.where(clear, shares - off, 1.0)))
    unclear = math.sqrt(int(np.sum(~clear)))
    entropy = off * float(np.linalg.norm(slopes[clear]))
    entropy += unclear * off * math.log(unclear / off) if unclear * off > 0.0 else 0.0
    entropy += EPSILON * (4.0 + math.log(d) * math.sqrt(d))
    return min(value * math.expm1(entropy), float(d))


def _relative_to_largest(eigenvalues: FloatArray) -> FloatArray:
    """Eigenvalues over the largest one, rounding below zero clipped; NaN for zero variance."""
    largest = np.max(eigenvalues)
    return np.maximum(eigenvalues, 0.0) / (largest if largest > 0.0 else math.nan)


def explained_variance_ratio(eigenvalues: FloatArray, *, trace: float | None = None) -> FloatArray:
    """Share of the variance in each principal component, ``lambda_k / sum lambda``.

    Parameters
    ----------
    eigenvalues : (m,) float64 array
        Eigenvalues of the covariance of the features. Values that rounding has made negative count as zero.
    trace : float, optional
        Of the covariance; the sum of the eigenvalues where these are all.

    Returns
    -------
    (m,) float64 array
        The shares, in the order of the eigenvalues; NaN in every place for zero variance.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), figure 3.

    Examples
    --------
    >>> explained_variance_ratio(np.array([6.0, 2.0, 0.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    if trace is not None:
        return np.clip(eigenvalues / (trace if trace > 0.0 else math.nan), 0.0, 1.0)
    relative = _relative_to_largest(eigenvalues)
    shares: FloatArray = relative / relative.sum()
    return shares


def effective_rank(eigenvalues: FloatArray) -> float:
    """Effective rank: exp of the Shannon entropy of the shares of variance.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Eigenvalues of the covariance of the features.

    Returns
    -------
    float
        Between 1 and d; NaN for zero variance.

    References
    ----------
    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007, here of the
    covariance (its eigenvalues, not their roots).

    Examples
    --------
    >>> round(effective_rank(np.array([1.0, 1.0, 1.0, 0.0])), 12)
    3.0
    """
    shares = explained_variance_ratio(eigenvalues)
    positive = shares[shares != 0.0]  # x log x tends to 0; NaN stays in
    rank = float(np.exp(-np.sum(positive * np.log(positive))))
    return float(np.clip(rank, 1.0, len(eigenvalues)))


def stable_rank(eigenvalues: FloatArray) -> float:
    """Stable rank of the covariance, ``sum lambda^2 / lambda_1^2``.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Eigenvalues of the covariance of the features.

    Returns
    -------
    float
        Between 1 and d; NaN for zero variance.

    References
    ----------
    arXiv 2603.23805 (Deep Neural Regression Collapse), section on stable ranks.

    Examples
    --------
    >>> stable_rank(np.array([2.0, 1.0, 0.0]))
    1.25
    """
    return float(np.sum(_relative_to_largest(eigenvalues) ** 2))


def stable_rank_from_norm(norm: float, largest: float) -> float:
    """Stable rank of a covariance C without its spectrum, ``|C|_F^2 / lambda_1^2``; NaN for zero variance.

    Examples
    --------
    >>> stable_rank_from_norm(5.0, 4.0)
    1.5625
    """
    return max((norm / largest) ** 2, 1.0) if largest > 0.0 else math.nan
