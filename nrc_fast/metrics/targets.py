"""What features say of targets: linear CKA and errors of predictions, each with its bound.

Covariances are population moments (1/N). With features h in R^d and targets y in R^n the feature covariance
is (d, d), the target covariance (n, n), and the cross covariance ``(1/N) sum (h - mean_h)(y - mean_y)^T`` is
(d, n). A number that its definition leaves open (a division by zero variance, W = 0) is NaN. Errors of the
caller, such as shapes that do not match, are not looked for here. What needs the eigenvalues of a covariance
raises ``numpy.linalg.LinAlgError`` where they do not converge, which non-finite entries cause.

Bounds are certified in what follows from the errors of the moments that they are given, and no better than these; that
of errors which are taken row by row is probable, as roundings of a row are taken to grow like the root of d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, scaled_norm
from nrc_fast.base.symmetric import Symmetric, as_symmetric
from nrc_fast.metrics.rounding import square_sum_rounding

__all__ = [
    "PairedEnergies",
    "centred_error_from_moments",
    "chance_alignment",
    "cka_bound",
    "debiased_cka",
    "debiased_cka_bound",
    "explicit_error_bound",
    "linear_cka",
    "prediction_error_from_moments",
    "r_squared",
    "r_squared_bound",
]


def linear_cka(feature_covariance: Symmetric, target_covariance: FloatArray, cross_covariance: FloatArray) -> float:
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
    of_features = as_symmetric(feature_covariance).scaled_norm()
    moments = [of_features, scaled_norm(target_covariance), scaled_norm(cross_covariance)]
    features, targets, cross = (norm for norm, _ in moments)
    if features == 0.0 or targets == 0.0:
        return math.nan
    exponent = 2 * moments[2][1] - moments[0][1] - moments[1][1]
    alignment = math.ldexp(cross**2 / (features * targets), exponent)
    return min(alignment, 1.0)  # the bound is Cauchy-Schwarz; rounding passes it by an ulp


@dataclass(frozen=True)
class PairedEnergies:
    """Sums over rows of products of squares, ``a_i = |h_i - mean_h|^2 / v_h`` and ``b_i = |y_i - mean_y|^2 / v_y``.

    v_h and v_y are the variances, the traces of the covariances, so that numbers of any size are near 1.
    """

    features: float  # sum a_i^2
    targets: float  # sum b_i^2
    both: float  # sum a_i b_i


def debiased_cka(alignments: tuple[float, float, float], energies: PairedEnergies, count: int) -> float:
    """Linear CKA from unbiased estimates of the three alignments (HSIC), for few samples.

    Plain CKA of independent features and targets is not 0: each row is aligned with itself. Without these N terms,
    ``HSIC = (t - p + N^2/((N-1)(N-2)) - 2 p/(N-2)) / (N (N-3))`` with ``t = N^2 |C|_F^2 / (v v')`` of the covariance C
    and p the sum of products of squares, is unbiased; it does not depend on what is subtracted from the rows.

    Parameters
    ----------
    alignments : three floats
        ``|C_hh|_F^2 / v_h^2``, ``|C_yy|_F^2 / v_y^2`` and ``|C_hy|_F^2 / (v_h v_y)``.
    energies : PairedEnergies
    count : int
        N.

    Returns
    -------
    float
        At most about 1, and negative where features and targets agree less than by chance; NaN below 4 samples, and
        where the estimate of a variance is not positive.

    References
    ----------
    Song et al., "Feature selection via dependence maximization", JMLR 2012, theorem 2; Nguyen et al., arXiv 2010.15327.

    Examples
    --------
    >>> H = np.array([[1.0], [-1.0], [2.0], [-2.0], [3.0], [-3.0]])
    >>> a = H[:, 0] ** 2 / np.mean(H**2)
    >>> same = PairedEnergies(a @ a, a @ a, a @ a)
    >>> debiased_cka((1.0, 1.0, 1.0), same, 6)
    1.0
    """
    own, theirs, both = _unbiased(alignments, energies, count)
    return float(both / math.sqrt(own * theirs)) if own > 0.0 and theirs > 0.0 else math.nan


def _unbiased(alignments: tuple[float, float, float], energies: PairedEnergies, count: int) -> tuple[float, ...]:
    """The three unbiased alignments up to the factor N (N - 3); NaN below 4 samples."""
    if count < 4:
        return (math.nan,) * 3
    shared = count**2 / ((count - 1) * (count - 2))
    squares = energies.features, energies.targets, energies.both
    return tuple(
        count**2 * alignment - square + shared - 2.0 * square / (count - 2)
        for alignment, square in zip(alignments, squares, strict=True)
    )


def debiased_cka_bound(
    value: float,
    alignments: tuple[float, float, float],
    energies: PairedEnergies,
    count: int,
    *,
    errors: tuple[float, float, float],
    rounding: float,
    unit_error: float,
) -> float:
    """Bound of the debiased CKA from the errors of its alignments and of the products of squares.

    Parameters
    ----------
    value, alignments, energies, count
        What `debiased_cka` was given, and gave.
    errors : three floats
        Bounds of the errors of the alignments.
    rounding : float
        Bound of the error of every sum of products of squares, relative to the root of the first two sums.
    unit_error : float
        Bound of what a product of two units may be off from that of the variances, relative to it.
    """
    own, theirs, both = _unbiased(alignments, energies, count)
    if not (own > 0.0 and theirs > 0.0):
        return math.nan
    sizes = energies.features, energies.targets, math.sqrt(energies.features * energies.targets)
    # Also of the subtractions themselves, and of units that are not quite the variances.
    off = [
        count**2 * (error + 2.5 * EPSILON * alignment) + (1.0 + 2.0 / (count - 2)) * (rounding + EPSILON) * size
        for error, alignment, size in zip(errors, alignments, sizes, strict=True)
    ]
    off = [one + unit_error * count**2 / ((count - 1) * (count - 2)) for one in off]
    if off[0] >= own or off[1] >= theirs:
        return math.inf
    smallest = math.sqrt((own - off[0]) * (theirs - off[1]))
    return float((abs(both) + off[2]) / smallest - abs(value)) + 4.0 * EPSILON * (abs(value) + off[2] / smallest)


def chance_alignment(feature_covariance: Symmetric, target_covariance: FloatArray, count: int) -> float:
    """What linear CKA of independent features and targets is on average, about: ``v_h v_y / (N |C_hh|_F |C_yy|_F)``.

    Examples
    --------
    >>> chance_alignment(np.eye(100), np.eye(4), 1000)
    0.02
    """
    own, theirs = (c.trace / c.norm for c in map(as_symmetric, (feature_covariance, target_covariance)))
    return own * theirs / count


def prediction_error_from_moments(
    weights: FloatArray,
    bias: FloatArray,
    feature_mean: FloatArray,
    target_mean: FloatArray,
    feature_covariance: Symmetric,
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
    centred = centred_error_from_moments(weights, feature_covariance, target_covariance, cross_covariance)
    return centred + float(offset @ offset)


def centred_error_from_moments(
    weights: FloatArray, feature_covariance: Symmetric, target_covariance: FloatArray, cross_covariance: FloatArray
) -> float:
    """That of `prediction_error_from_moments` but for the means: ``tr(W C_hh W^T) - 2 tr(W C_hy) + tr C_yy``."""
    images = as_symmetric(feature_covariance).products(weights)
    explained = np.sum(images * weights) - 2.0 * np.sum(weights * cross_covariance.T)
    return max(float(explained + np.trace(target_covariance)), 0.0)


def explicit_error_bound(value: float, size: float, *, d: int, chunks: int) -> float:
    """Bound of the mean of ``|W h + b - y|^2`` taken row by row in float64.

    Each error is rounded in proportion to what cancels in it, and their sum over some chunks of rows to itself.

    Parameters
    ----------
    value : float
        The mean that is bounded.
    size : float
        Mean square of what cancels.
    d, chunks : int
    """
    rounding = EPSILON * math.sqrt(d * size)
    return 2.0 * rounding * math.sqrt(value) + rounding**2 + (2.0 * EPSILON + square_sum_rounding(chunks)) * value


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


def r_squared_bound(mse: float, variance: float, *, mse_bound: float, variance_error: float) -> float:
    """Bound of ``1 - mse / variance`` from those of both, and from the roundings of the quotient and the difference.

    Parameters
    ----------
    mse, variance : float
        Of the targets, as `r_squared` was given them.
    mse_bound, variance_error : float
        Bounds of their errors.

    Returns
    -------
    float
        NaN for targets without variance; infinite where nothing of the variance is known.

    Examples
    --------
    >>> r_squared_bound(0.5, 2.0, mse_bound=0.1, variance_error=0.0) >= 0.05
    True
    """
    if not variance > 0.0:
        return math.nan
    if not variance > variance_error:
        return math.inf
    share = mse / variance
    return (mse_bound + share * variance_error) / (variance - variance_error) + EPSILON * (1.0 + share)


def cka_bound(value: float, norms: tuple[float, float, float], errors: tuple[float, float, float]) -> float:
    """Bound of linear CKA, ``|C_hy|^2 / (|C_hh| |C_yy|)``, from the rounding of the covariances.

    Parameters
    ----------
    value : float
        The CKA that is bounded.
    norms, errors : three floats
        Frobenius norms of C_hh, C_yy and C_hy, and bounds of the norms of their errors.

    Examples
    --------
    >>> round(cka_bound(0.5, (2.0, 2.0, 1.4), (0.1, 0.2, 0.0)), 12)
    0.088235294118
    """
    features, targets, both = norms
    if not (features > 0.0 and targets > 0.0):
        return math.nan
    own = errors[0] / features + errors[1] / targets
    if own >= 1.0:
        return 1.0
    # Products of both norms may leave the range of float64.
    of_both = ((2.0 * both + errors[2]) / features) * (errors[2] / targets)
    return min((value * own + of_both) / (1.0 - own) + 8.0 * EPSILON, 1.0)
