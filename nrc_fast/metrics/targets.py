"""From statistics and weights to numbers: pure functions, float64 in and out.

Covariances are population moments (1/N). With features h in R^d and targets y in R^n the feature covariance
is (d, d), the target covariance (n, n), and the cross covariance ``(1/N) sum (h - mean_h)(y - mean_y)^T`` is
(d, n). A number that its definition leaves open (a division by zero variance, W = 0) is NaN. Errors of the
caller, such as shapes that do not match, are not looked for here. What needs the eigenvalues of a covariance
raises ``numpy.linalg.LinAlgError`` where they do not converge, which non-finite entries cause.
"""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.linalg import EPSILON, FloatArray, scale_to_unit

__all__ = [
    "effective_rank",
    "explained_variance_ratio",
    "linear_cka",
    "linear_readout_error",
    "prediction_error_from_moments",
    "r_squared",
    "stable_rank",
]


def _relative_to_largest(eigenvalues: FloatArray) -> FloatArray:
    """Eigenvalues over the largest one, rounding below zero clipped; NaN for zero variance."""
    largest = np.max(eigenvalues)
    return np.maximum(eigenvalues, 0.0) / (largest if largest > 0.0 else math.nan)


def explained_variance_ratio(eigenvalues: FloatArray) -> FloatArray:
    """Share of the variance in each principal component, ``lambda_k / sum lambda``.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Of the covariance of the features. Values that rounding has made negative count as zero.

    Returns
    -------
    (d,) float64 array
        In the order given; NaN in every place for zero variance.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), figure 3.

    Examples
    --------
    >>> explained_variance_ratio(np.array([6.0, 2.0, 0.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    relative = _relative_to_largest(eigenvalues)
    shares: FloatArray = relative / relative.sum()
    return shares


def effective_rank(eigenvalues: FloatArray) -> float:
    """Effective rank: exp of the Shannon entropy of the shares of variance.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Of the covariance of the features.

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
    return float(np.exp(-np.sum(positive * np.log(positive))))


def stable_rank(eigenvalues: FloatArray) -> float:
    """Stable rank of the covariance, ``sum lambda^2 / lambda_1^2``.

    Parameters
    ----------
    eigenvalues : (d,) float64 array
        Of the covariance of the features.

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


def linear_cka(feature_covariance: FloatArray, target_covariance: FloatArray, cross_covariance: FloatArray) -> float:
    """Linear centred kernel alignment of features and targets, from d x n moments instead of N x N kernels.

    ``|C_hy|_F^2 / (|C_hh|_F |C_yy|_F)``. A perfectly collapsed network has CKA below 1 unless its targets are
    isotropic (``ufm.predicted_spectrum`` gives the value).

    Parameters
    ----------
    feature_covariance : (d, d) float64 array
        Both triangles filled.
    target_covariance : (n, n) float64 array
        Both triangles filled.
    cross_covariance : (d, n) float64 array

    Returns
    -------
    float
        In [0, 1]; NaN where the features or the targets have no variance.

    References
    ----------
    Kornblith et al., arXiv 1905.00414; arXiv 2603.23805 (NRC2 of Deep NRC, all features).

    Examples
    --------
    >>> covariance = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> round(linear_cka(covariance, covariance, covariance), 12)
    1.0
    """
    moments = [scale_to_unit(moment) for moment in (feature_covariance, target_covariance, cross_covariance)]
    features, targets, cross = (float(np.linalg.norm(scaled)) for scaled, _ in moments)
    if features == 0.0 or targets == 0.0:
        return math.nan
    exponent = 2 * moments[2][1] - moments[0][1] - moments[1][1]
    alignment = math.ldexp(cross**2 / (features * targets), exponent)
    return min(alignment, 1.0)  # the bound is Cauchy-Schwarz; rounding passes it by an ulp


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
        Of the feature covariance.
    eigenvectors : (d, d) float64 array
        Columns, in the order of `eigenvalues`.
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
    kept = eigenvalues > len(eigenvalues) * EPSILON * np.max(eigenvalues)
    explained = (eigenvectors[:, kept].T @ cross_covariance) / np.sqrt(eigenvalues[kept])[:, np.newaxis]
    return max(float(np.trace(target_covariance) - np.sum(explained**2)), 0.0)


def prediction_error_from_moments(
    weights: FloatArray,
    bias: FloatArray,
    feature_mean: FloatArray,
    target_mean: FloatArray,
    feature_covariance: FloatArray,
    target_covariance: FloatArray,
    cross_covariance: FloatArray,
) -> float:
    """Mean squared error of the head, ``(1/N) sum |W h + b - y|^2``, summed over the outputs.

    ``tr(W C_hh W^T) - 2 tr(W C_hy) + tr C_yy + |W mean_h + b - mean_y|^2``: no pass over the data. What is
    below about ``d * eps * (tr(W C_hh W^T) + tr C_yy)`` is noise.

    Parameters
    ----------
    weights : (n, d) float64 array
    bias : (n,) float64 array
    feature_mean : (d,) float64 array
    target_mean : (n,) float64 array
    feature_covariance : (d, d) float64 array
        Both triangles filled.
    target_covariance : (n, n) float64 array
    cross_covariance : (d, n) float64 array

    Returns
    -------
    float
        Never negative.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> prediction_error_from_moments(one, np.array([0.5]), np.zeros(1), np.zeros(1), one, one, 0.75 * one)
    0.75
    """
    offset = weights @ feature_mean + bias - target_mean
    explained = np.sum((weights @ feature_covariance) * weights) - 2.0 * np.sum(weights * cross_covariance.T)
    return max(float(explained + np.trace(target_covariance)), 0.0) + float(offset @ offset)


def r_squared(mse: float, target_covariance: FloatArray) -> float:
    """Coefficient of determination over all outputs, ``1 - mse / tr(covariance)``.

    Parameters
    ----------
    mse : float
        Summed over the outputs, as everywhere in this package.
    target_covariance : (n, n) float64 array

    Returns
    -------
    float
        At most 1; NaN for targets without variance.

    Examples
    --------
    >>> r_squared(0.5, np.diag([1.0, 1.0]))
    0.75
    """
    variance = float(np.trace(target_covariance))
    return 1.0 - mse / variance if variance > 0.0 else math.nan
